"""BN-Inception, also called Inception v2: the network that batch norm was shown on.

S. Ioffe, C. Szegedy: Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift, ICML
2015, section 4.2 and the appendix.

GoogLeNet with batch norm after every convolution. Each 5×5 convolution becomes two of 3×3, which see as far with fewer
weights; most pools of the blocks take the average; and blocks at stride 2 take the place of the pools between them.

===========  =============  ====  ===========  ==================  ========
stage        output         #1×1  #3×3 (from)  double 3×3 (from)   pool
===========  =============  ====  ===========  ==================  ========
conv1 7×7/2  64×112×112
pool1        64×56×56
conv2        192×56×56            192 (64)
pool2        192×28×28
3a           256×28×28      64    64 (64)      96 (64)             avg, 32
3b           320×28×28      64    96 (64)      96 (64)             avg, 64
3c, stride   576×14×14            160 (128)    96 (64)             max
4a           576×14×14      224   96 (64)      128 (96)            avg, 128
4b           576×14×14      192   128 (96)     128 (96)            avg, 128
4c           608×14×14      160   160 (128)    160 (128)           avg, 128
4d           608×14×14      96    192 (128)    192 (160)           avg, 128
4e, stride   1056×7×7             192 (128)    256 (192)           max
5a           1024×7×7       352   320 (192)    224 (160)           avg, 128
5b           1024×7×7       352   320 (192)    224 (192)           max, 128
===========  =============  ====  ===========  ==================  ========

``bninception`` has the sizes, and the order of the weights, of pytorchcv's (11,295,240 parameters), which are those of
the weights in circulation. It differs from the paper: the pools of 4c and 4d project to 128 channels instead of 96
(so 4c and 4d have 608 channels instead of 576, 4e 1056 instead of 1024); the first convolution is a plain one instead
of a separable one; convolutions have biases, which batch norm makes needless; and there are no auxiliary classifiers.

It differs from pytorchcv in what sizes it takes: there, the strided blocks need maps with even sides.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Literal, final

from torch import Tensor, nn
from torch.nn import functional as F

from striate.networks.layers.branches import Concat
from striate.networks.zoo.blocks import ConvNormReLU, initialise, refuse_below
from striate.networks.zoo.registry import enter

_PAPER = "Ioffe & Szegedy, Batch Normalization, ICML 2015"
_LEAST = 7  # pixels: what the two pools leave something of

_convolution = partial(ConvNormReLU, bias=True, eps=1e-5)


@final
class HalvingPool(nn.Module):
    """Max pooling 3×3 at stride 2 to the size that a padded 3×3 convolution at stride 2 gives.

    Windows start at the first row where H is even and one row before it where H is odd: that is where the windows
    of the convolution lie. Columns alike.

    Forward: maps (N, C, H, W) → (N, C, ⌈H/2⌉, ⌈W/2⌉).
    """

    def forward(self, maps: Tensor) -> Tensor:
        return F.max_pool2d(maps, 3, 2, padding=(maps.shape[2] % 2, maps.shape[3] % 2), ceil_mode=True)


def _single(inputs: int, reduced: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """1×1, then 3×3."""
    return nn.Sequential(_convolution(inputs, reduced, 1), _convolution(reduced, outputs, 3, stride=stride, padding=1))


def _double(inputs: int, reduced: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """1×1, then 3×3 twice."""
    return nn.Sequential(
        _convolution(inputs, reduced, 1),
        _convolution(reduced, outputs, 3, padding=1),
        _convolution(outputs, outputs, 3, stride=stride, padding=1),
    )


def inception(
    inputs: int,
    ones: int,
    single: tuple[int, int],
    double: tuple[int, int],
    projection: int,
    pool: Literal["avg", "max"] = "avg",
) -> Concat:
    """Return a block that keeps the size: 1×1, 3×3, double 3×3, pool; pairs are (reduced, outputs)."""
    pooling = nn.AvgPool2d(3, 1, padding=1) if pool == "avg" else nn.MaxPool2d(3, 1, padding=1)
    return Concat(
        [
            _convolution(inputs, ones, 1),
            _single(inputs, *single),
            _double(inputs, *double),
            nn.Sequential(pooling, _convolution(inputs, projection, 1)),
        ]
    )


def reduction(inputs: int, single: tuple[int, int], double: tuple[int, int]) -> Concat:
    """Return a block that halves the size: 3×3, double 3×3, pool; pairs are (reduced, outputs)."""
    return Concat([_single(inputs, *single, stride=2), _double(inputs, *double, stride=2), HalvingPool()])


@final
class BNInception(nn.Module):
    """Three convolutions, ten Inception blocks, global average pooling; its children run one after another.

    Args:
        shape: (C, H, W); H and W at least 7.
        classes: K.

    Forward: images (N, C, H, W) → logits (N, K).

    Raises:
        NetworkError: the pictures are too small.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        refuse_below(_LEAST, "bninception", shape)
        layers: dict[str, nn.Module] = OrderedDict(
            conv1=_convolution(shape[0], 64, 7, stride=2, padding=3),
            pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
            conv2=_single(64, 64, 192),
            pool2=nn.MaxPool2d(3, 2, ceil_mode=True),
            inception3a=inception(192, 64, (64, 64), (64, 96), 32),
            inception3b=inception(256, 64, (64, 96), (64, 96), 64),
            inception3c=reduction(320, (128, 160), (64, 96)),
            inception4a=inception(576, 224, (64, 96), (96, 128), 128),
            inception4b=inception(576, 192, (96, 128), (96, 128), 128),
            inception4c=inception(576, 160, (128, 160), (128, 160), 128),
            inception4d=inception(608, 96, (128, 192), (160, 192), 128),
            inception4e=reduction(608, (128, 192), (192, 256)),
            inception5a=inception(1056, 352, (192, 320), (160, 224), 128),
            inception5b=inception(1024, 352, (192, 320), (192, 224), 128, pool="max"),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(1024, classes),
        )
        for name, layer in layers.items():
            self.add_module(name, layer)
        initialise(self)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The rows of the table and the head, input to output."""
        return {name: module for name, module in self.named_children() if name != "flatten"}

    def forward(self, images: Tensor) -> Tensor:
        maps = images
        for layer in self.children():
            maps = layer(maps)
        return maps


@enter("bninception", year=2015, title="BN-Inception (v2)", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def bninception(*, shape: tuple[int, int, int], classes: int) -> BNInception:
    """Return BN-Inception with 11,295,240 parameters for 1000 classes."""
    return BNInception(shape, classes)
