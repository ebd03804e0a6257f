"""AlexNet: the network that turned computer vision to deep learning.

A. Krizhevsky, I. Sutskever, G. Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012.
``alexnet`` is the one-tower form of A. Krizhevsky: One weird trick for parallelizing convolutional neural networks,
arXiv 1404.5997, 2014, as torchvision builds it.

Five convolutions and three fully connected layers learn from raw pixels what had been designed by hand; rectified
linear units keep the gradient alive, dropout holds 60 million parameters back from learning the pictures by heart.

=======  =====================  =========  ==================  ======================
layer    ``alexnet_paper``      output     ``alexnet``         output
=======  =====================  =========  ==================  ======================
1        96 of 11×11, stride 4  96×55×55   64, padding 2       64×55×55
         normalise, pool        96×27×27   pool                64×27×27
2        256 of 5×5, 2 groups   256×27×27  192, 1 group        192×27×27
         normalise, pool        256×13×13  pool                192×13×13
3        384 of 3×3             384×13×13  384                 384×13×13
4        384 of 3×3, 2 groups   384×13×13  256, 1 group        256×13×13
5        256 of 3×3, 2 groups   256×13×13  256, 1 group        256×13×13
         pool                   256×6×6    pool                256×6×6
6        4096 units             4096       4096                4096
7        4096 units             4096       4096                4096
8        K classes              K          K                   K
total    60,965,224 parameters             61,100,840
=======  =====================  =========  ==================  ======================

Pools take the largest of 3×3 with stride 2, so they overlap (section 3.4). Each layer but the last ends in a ReLU, and
normalisation comes after it (section 3.3); dropout is 0.5 (section 4.2).

``alexnet`` has no groups and no normalisation, takes pictures of any size (an adaptive pool makes the last maps 6×6),
drops the inputs of layers 6 and 7 instead of their outputs, and starts from He et al., Delving Deep into Rectifiers,
ICCV 2015, with the paper's 0.01 (section 5) for the last layer.

``alexnet_paper`` differs from the paper where the paper differs from itself: it names pictures of 224×224 and 253,440
neurons in layer 1, but 11×11 filters with stride 4 cover 227×227 and give 290,400. Pictures are padded with zeros until
the stride comes out even: 224 becomes 227, two pixels before and one after. The groups are the paper's two GPUs.
Its initial weights are the paper's (section 5), which counts on pixels of 0 to 255 less their mean: where pictures are
normalised to a deviation of 1, the first epochs are slow.
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.networks.layers import local_response_norm
from striate.networks.zoo.registry import enter

_PAPER = "Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012"
_ONE_TOWER = "Krizhevsky, One weird trick for parallelizing convolutional neural networks, arXiv 1404.5997, 2014"
_UNITS = 4096  # of each hidden fully connected layer
_LEAST = 63  # pixels: `alexnet` has no map left of a smaller picture


@final
class AlexNet(nn.Module):
    """AlexNet in one tower, without normalisation; names and layout are torchvision's.

    Args:
        shape: (C, H, W); H and W at least 63.
        classes: K.

    Forward: images (N, C, H, W) → logits (N, K).

    Raises:
        NetworkError: too small a picture.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < _LEAST:
            raise _too_small("alexnet", height, width, _LEAST)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        head = nn.Linear(_UNITS, classes)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Linear(256 * 6 * 6, _UNITS), nn.ReLU(inplace=True),
            nn.Dropout(0.5), nn.Linear(_UNITS, _UNITS), nn.ReLU(inplace=True),
            head,
        )  # fmt: skip
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(head.weight, std=0.01)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Every layer that learns and every pool, input to output."""
        kinds = (nn.Conv2d, nn.MaxPool2d, nn.Linear)
        return {name: module for name, module in self.named_modules() if isinstance(module, kinds)}

    @property
    def head(self) -> nn.Module:
        """The layer whose outputs are the logits."""
        return self.classifier[-1]

    def forward(self, images: Tensor) -> Tensor:
        maps = self.avgpool(self.features(images))  # (N, 256, 6, 6)
        logits: Tensor = self.classifier(maps.flatten(1))
        return logits


@final
class AlexNetPaper(nn.Module):
    """AlexNet as the paper describes it: two groups, local response normalisation, overlapping pools.

    Args:
        shape: (C, H, W); H and W at least 64.
        classes: K.

    Forward: images (N, C, H, W) → logits (N, K).

    Raises:
        NetworkError: too small a picture.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        rows, columns = _after_layer5(height), _after_layer5(width)
        if min(rows, columns) < 1:
            raise _too_small("alexnet_paper", height, width, _LEAST + 1)
        first = nn.Conv2d(channels, 96, 11, stride=4, padding=(_padding(height), _padding(width)))
        self.layer1 = nn.Sequential(first, nn.ReLU(inplace=True), local_response_norm(), nn.MaxPool2d(3, 2))
        second = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.layer2 = nn.Sequential(second, nn.ReLU(inplace=True), local_response_norm(), nn.MaxPool2d(3, 2))
        self.layer3 = nn.Sequential(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True))
        self.layer4 = nn.Sequential(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(inplace=True))
        fifth = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.layer5 = nn.Sequential(fifth, nn.ReLU(inplace=True), nn.MaxPool2d(3, 2))
        sixth = nn.Linear(256 * rows * columns, _UNITS)
        self.layer6 = nn.Sequential(sixth, nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.layer7 = nn.Sequential(nn.Linear(_UNITS, _UNITS), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.head = nn.Linear(_UNITS, classes)
        self._initialise()

    def _initialise(self) -> None:
        """Section 5: deviation 0.01; biases of 1 give the ReLUs of these five layers something positive to learn on."""
        positive = {self.layer2, self.layer4, self.layer5, self.layer6, self.layer7}
        for stage in self.children():
            layer = stage[0] if isinstance(stage, nn.Sequential) else stage
            nn.init.normal_(layer.weight, std=0.01)  # type: ignore[arg-type]
            nn.init.constant_(layer.bias, 1.0 if stage in positive else 0.0)  # type: ignore[arg-type]

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The paper's eight layers, input to output."""
        return dict(self.named_children())

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer2(self.layer1(images))  # (N, 256, 13, 13)
        maps = self.layer5(self.layer4(self.layer3(maps)))  # (N, 256, 6, 6)
        logits: Tensor = self.head(self.layer7(self.layer6(maps.flatten(1))))
        return logits


def _padding(side: int) -> int:
    """Return the pixels on each side that let the stride of 4 come out even; one too many after is never read."""
    missing = -(side - 11) % 4
    return (missing + 1) // 2


def _after_layer5(side: int) -> int:
    side = (side + 2 * _padding(side) - 11) // 4 + 1
    for _ in range(3):  # pools
        side = (side - 3) // 2 + 1
    return side


def _too_small(name: str, height: int, width: int, least: int) -> NetworkError:
    return NetworkError(
        f"{name} needs pictures of at least {least}×{least}, got {height}×{width}. "
        "Enlarge them with --size 224 (size=224)."
    )


@enter("alexnet", year=2014, title="AlexNet as built today", paper=_ONE_TOWER, shape=(3, 224, 224), classes=1000)
def alexnet(*, shape: tuple[int, int, int], classes: int) -> AlexNet:
    """Return torchvision's AlexNet, with 61,100,840 parameters for 1,000 classes."""
    return AlexNet(shape, classes)


@enter("alexnet_paper", year=2012, title="AlexNet as published", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def alexnet_paper(*, shape: tuple[int, int, int], classes: int) -> AlexNetPaper:
    """Return AlexNet with 60,965,224 parameters for 1,000 classes."""
    return AlexNetPaper(shape, classes)
