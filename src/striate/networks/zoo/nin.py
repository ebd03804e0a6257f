"""Network in Network: a small perceptron slides over the picture instead of a filter.

M. Lin, Q. Chen, S. Yan: Network In Network, ICLR 2014, arXiv 1312.4400.

A convolution and two 1×1 convolutions make an mlpconv block: the pixels that one filter sees pass through several
layers before the next block sees them (section 3.1). The last block has one map per class, and the mean of each map
is that class's logit, so that no fully connected layer is left to overfit (section 3.2).

=====  =====================  ==========  ========================  ===========
block  ``nin_cifar10``        output      ``nin_imagenet``          output
=====  =====================  ==========  ========================  ===========
1      192 of 5×5, 160, 96    96×32×32    96 of 11×11 / 4, 96, 96   96×54×54
       largest of 3×3 / 2     96×16×16    largest of 3×3 / 2        96×27×27
2      192 of 5×5, 192, 192   192×16×16   256 of 5×5, 256, 256      256×27×27
       mean of 3×3 / 2        192×8×8     largest of 3×3 / 2        256×13×13
3      192 of 3×3, 192, K     K×8×8       384 of 3×3, 384, 384      384×13×13
                                          largest of 3×3 / 2        384×6×6
4                                         1024 of 3×3, 1024, K      K×6×6
       mean of each map       K           mean of each map          K
total  966,986 parameters                 7,595,176 parameters
=====  =====================  ==========  ========================  ===========

Every convolution ends in a ReLU, that of the classes too: no logit is negative before the mean. Dropout is 0.5.

``nin_cifar10`` is pytorchcv's, after the authors' configuration: dropout follows both pools. ``nin_imagenet`` is the
Caffe model that the first author published ("Network in Network Imagenet Model", 29 MB, 59.36 % right): no padding in
block 1, pools that may reach over the rim (Caffe's rounding), dropout only before block 4. It was read in copies of
that file. The paper describes no network for ImageNet to compare it with, and its accuracy has not been reproduced.

Both take the mean over maps of any size and start from He et al., Delving Deep into Rectifiers, ICCV 2015; the Caffe
model's own deviations are 0.01 and 0.05, for pixels of 0 to 255 less their mean.
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.networks.layers import GlobalAveragePool
from striate.networks.zoo.registry import enter

_PAPER = "Lin, Chen, Yan, Network In Network, ICLR 2014"


@final
class NetworkInNetwork(nn.Module):
    """Blocks of a convolution and 1×1 convolutions, then the mean of one map per class.

    Args:
        blocks: all but the last convolution.
        classes: K.

    Forward: images (N, C, H, W) → logits (N, K), none negative.
    """

    def __init__(self, blocks: list[nn.Sequential], classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        widths = [layer.out_channels for layer in self.blocks.modules() if isinstance(layer, nn.Conv2d)]
        self.head = nn.Conv2d(widths[-1], classes, 1)
        self.activation = nn.ReLU(inplace=True)
        self.pool = GlobalAveragePool()
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The blocks, each with the pool before it, and the last convolution, input to output."""
        blocks = {f"blocks.{name}": block for name, block in self.blocks.named_children()}
        return {**blocks, "head": self.head}

    def forward(self, images: Tensor) -> Tensor:
        maps = self.activation(self.head(self.blocks(images)))  # (N, K, H / stride, W / stride)
        logits: Tensor = self.pool(maps)
        return logits


def _mlpconv(convolution: nn.Conv2d, *widths: int, before: tuple[nn.Module, ...] = ()) -> nn.Sequential:
    """Return a block: what comes before, the convolution, and a 1×1 convolution per width; a ReLU after each."""
    layers: list[nn.Module] = [*before, convolution, nn.ReLU(inplace=True)]
    inputs = convolution.out_channels
    for width in widths:
        layers += [nn.Conv2d(inputs, width, 1), nn.ReLU(inplace=True)]
        inputs = width
    return nn.Sequential(*layers)


@enter("nin_cifar10", year=2014, title="Network in Network", paper=_PAPER, shape=(3, 32, 32), classes=10)
def nin_cifar10(*, shape: tuple[int, int, int], classes: int) -> NetworkInNetwork:
    """Return pytorchcv's network for CIFAR, with 966,986 parameters for 10 classes; any size of pictures fits."""
    to_2 = (nn.MaxPool2d(3, 2, padding=1), nn.Dropout(0.5))
    to_3 = (nn.AvgPool2d(3, 2, padding=1), nn.Dropout(0.5))
    blocks = [
        _mlpconv(nn.Conv2d(shape[0], 192, 5, padding=2), 160, 96),
        _mlpconv(nn.Conv2d(96, 192, 5, padding=2), 192, 192, before=to_2),
        _mlpconv(nn.Conv2d(192, 192, 3, padding=1), 192, before=to_3),
    ]
    return NetworkInNetwork(blocks, classes)


@enter(
    "nin_imagenet",
    year=2014,
    title="Network in Network for large pictures",
    paper=_PAPER,
    shape=(3, 224, 224),
    classes=1000,
)
def nin_imagenet(*, shape: tuple[int, int, int], classes: int) -> NetworkInNetwork:
    """Return the authors' network for ImageNet, with 7,595,176 parameters for 1,000 classes.

    Raises:
        NetworkError: a picture of less than 39×39.
    """
    channels, height, width = shape
    if min(height, width) < 39:  # leaves nothing to pool three times
        raise NetworkError(
            f"nin_imagenet needs pictures of at least 39×39, got {height}×{width}. "
            "Enlarge them with --size 224 (size=224), or take nin_cifar10."
        )
    blocks = [
        _mlpconv(nn.Conv2d(channels, 96, 11, stride=4), 96, 96),
        _mlpconv(nn.Conv2d(96, 256, 5, padding=2), 256, 256, before=(_pool(),)),
        _mlpconv(nn.Conv2d(256, 384, 3, padding=1), 384, 384, before=(_pool(),)),
        _mlpconv(nn.Conv2d(384, 1024, 3, padding=1), 1024, before=(_pool(), nn.Dropout(0.5))),
    ]
    return NetworkInNetwork(blocks, classes)


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)
