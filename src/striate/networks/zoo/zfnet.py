"""ZFNet: AlexNet, mended after a look inside.

M. Zeiler, R. Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014.

Projected back to the picture, AlexNet's first layer showed dead filters and no middle frequencies, its second layer
aliasing (section 4.1). Smaller first filters that move by fewer pixels mend both: 7×7 and 2 instead of 11×11 and 4.

======  =========================  ==========================
layer   what                       output (figure 3)
======  =========================  ==========================
1       96 of 7×7, stride 2        96×110×110
        pool, normalise            96×55×55
2       256 of 5×5, stride 2       256×26×26
        pool, normalise            256×13×13
3       384 of 3×3                 384×13×13
4       384 of 3×3                 384×13×13
5       256 of 3×3                 256×13×13
        pool                       256×6×6
6       4096 units                 4096
7       4096 units                 4096
8       K classes                  K
total   62,357,608 parameters
======  =========================  ==========================

Pools take the largest of 3×3 with stride 2; dropout is 0.5 after layers 6 and 7; there are no groups.

``zfnet_paper`` normalises after the pool, with the numbers of Krizhevsky et al. 2012, to which the paper refers.
The paper names no padding: one pixel around the picture, and pools that may reach over the rim, follow from its sizes.

``zfnet`` is pytorchcv's: it normalises before the pool, five times less (α / n instead of α; see
`striate.networks.layers.normalisation`).

Both start from He et al., Delving Deep into Rectifiers, ICCV 2015, and the paper's 0.01 for the last layer. The paper
starts all layers from 0.01, which counts on pixels of about −128 to 128. Its limit on the size of the filters (section
3.1) belongs to the training and is left out.
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.networks.layers import local_response_norm
from striate.networks.zoo.registry import enter

_PAPER = "Zeiler, Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014"
_UNITS = 4096  # of each hidden fully connected layer


@final
class ZFNet(nn.Module):
    """Five convolutions, the first two normalised, and three fully connected layers.

    Args:
        shape: (C, H, W); H and W at least 47.
        classes: K.
        pool_first: whether the first two layers pool before they normalise, as the paper does, with the paper's
            numbers; otherwise they normalise first, with pytorchcv's.

    Forward: images (N, C, H, W) → logits (N, K).

    Raises:
        NetworkError: too small a picture.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, pool_first: bool) -> None:
        super().__init__()
        channels, height, width = shape
        rows, columns = _after_layer5(height), _after_layer5(width)
        if min(rows, columns) < 1:
            raise NetworkError(
                f"ZFNet needs pictures of at least 47×47, got {height}×{width}. "
                "Enlarge them with --size 224 (size=224)."
            )
        self.layer1 = _pooled(nn.Conv2d(channels, 96, 7, stride=2, padding=1), pool_first)
        self.layer2 = _pooled(nn.Conv2d(96, 256, 5, stride=2), pool_first)
        self.layer3 = nn.Sequential(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True))
        self.layer4 = nn.Sequential(nn.Conv2d(384, 384, 3, padding=1), nn.ReLU(inplace=True))
        self.layer5 = nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True), _pool())
        sixth = nn.Linear(256 * rows * columns, _UNITS)
        self.layer6 = nn.Sequential(sixth, nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.layer7 = nn.Sequential(nn.Linear(_UNITS, _UNITS), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.head = nn.Linear(_UNITS, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.head.weight, std=0.01)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The paper's eight layers, input to output."""
        return dict(self.named_children())

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer2(self.layer1(images))  # (N, 256, 13, 13)
        maps = self.layer5(self.layer4(self.layer3(maps)))  # (N, 256, 6, 6)
        logits: Tensor = self.head(self.layer7(self.layer6(maps.flatten(1))))
        return logits


def _pooled(convolution: nn.Conv2d, pool_first: bool) -> nn.Sequential:
    if pool_first:
        return nn.Sequential(convolution, nn.ReLU(inplace=True), _pool(), local_response_norm())
    weak_norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)
    return nn.Sequential(convolution, nn.ReLU(inplace=True), weak_norm, _pool())


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def _after_layer5(side: int) -> int:
    side = ((side + 2 - 7) // 2 + 1) // 2  # a pool that may reach over the rim halves, rounding down
    return ((side - 5) // 2 + 1) // 2 // 2


@enter("zfnet", year=2014, title="ZFNet as built today", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def zfnet(*, shape: tuple[int, int, int], classes: int) -> ZFNet:
    """Return pytorchcv's ZFNet, with 62,357,608 parameters for 1,000 classes."""
    return ZFNet(shape, classes, pool_first=False)


@enter("zfnet_paper", year=2014, title="ZFNet as published", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def zfnet_paper(*, shape: tuple[int, int, int], classes: int) -> ZFNet:
    """Return ZFNet with the paper's order of pooling and normalisation."""
    return ZFNet(shape, classes, pool_first=True)
