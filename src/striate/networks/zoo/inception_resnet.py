"""Inception-ResNet v1 and v2: Inception blocks that add to what they see.

C. Szegedy, S. Ioffe, V. Vanhoucke, A. Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning, AAAI 2017, sections 3.2 and 3.3, figures 10 to 20.

The branches of a block are brought back to as many maps as came in, scaled down and added to them. Such a network
learns faster than one without the sum; without the scaling, wide ones die.

===========  ===================================  =====================  =======================
stage        what                                 ``inceptionresnetv1``  ``inception_resnet_v2``
===========  ===================================  =====================  =======================
conv2d_1a    3×3/2                                32×149×149             32×149×149
conv2d_2a    3×3                                  32×147×147             32×147×147
conv2d_2b    3×3, padded                          64×147×147             64×147×147
maxpool_3a   3×3/2                                64×73×73               64×73×73
conv2d_3b    1×1                                  80×73×73               80×73×73
conv2d_4a    3×3                                  192×71×71              192×71×71
conv2d_4b    3×3/2                                256×35×35
maxpool_5a   3×3/2                                                       192×35×35
mixed_5b     1×1, 5×5, double 3×3, pool                                  320×35×35
repeat       Inception-ResNet-A, scaled by 0.17   5 × 256×35×35          10 × 320×35×35
mixed_6a     Reduction-A                          896×17×17              1088×17×17
repeat_1     Inception-ResNet-B, scaled by 0.1    10 × 896×17×17         20 × 1088×17×17
mixed_7a     Reduction-B                          1792×8×8               2080×8×8
repeat_2     Inception-ResNet-C, scaled by 0.2    5 × 1792×8×8           9 × 2080×8×8
block8       Inception-ResNet-C, neither scaled   1792×8×8               2080×8×8
             nor followed by ReLU
conv2d_7b    1×1                                                         1536×8×8
global_pool  average of each map                  1792×1×1               1536×1×1
bottleneck   fully connected, batch norm          512
classif      fully connected                      1000                   1000
parameters                                        23,995,624             55,843,464
===========  ===================================  =====================  =======================

``inceptionresnetv1`` has the sizes, and the order of the weights, of pytorchcv's; ``inception_resnet_v2`` has the
layout of timm's, whose published weights fit. They differ from the paper:

- ``block8`` comes on top of the paper's 5, 10 and 5 blocks, of which v2 has about twice as many;
- v1 has fewer features, 512, before the last layer, and drops 0.6 of the 1792 instead of 0.2;
- v2 has the stem of Inception v3 and ``mixed_5b`` instead of the stem of Inception v4; so its blocks add to 320, 1088
  and 2080 maps instead of 384, 1152 and 2144, which is what the paper's reductions give; it has ``conv2d_7b``, and
  drops no features unless told to (the paper drops 0.2).
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from striate.networks.layers.branches import Concat
from striate.networks.zoo.blocks import ConvNormReLU, along_columns, along_rows, concat, initialise, refuse_below
from striate.networks.zoo.registry import enter

_PAPER = "Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual Connections, AAAI 2017"
_LEAST = 75  # pixels: what leaves one after unpadded convolutions and five halvings


@final
class InceptionResidual(nn.Module):
    """maps + scale · conv2d(branches side by side), then ReLU (figures 10 to 13 and 16 to 20).

    Args:
        channels: C of the maps that come in and go out.
        branches: each from C channels to channels of its own, at the same size.
        joined: channels of all branches together.
        scale: what the branches are multiplied by (section 3.3).
        activation: what follows the sum.

    Forward: maps (N, C, H, W) → (N, C, H, W).
    """

    def __init__(
        self, channels: int, branches: list[nn.Module], joined: int, scale: float, activation: nn.Module
    ) -> None:
        super().__init__()
        self.names = [f"branch{number}" for number in range(len(branches))]
        for name, branch in zip(self.names, branches, strict=True):
            self.add_module(name, branch)
        self.conv2d = nn.Conv2d(joined, channels, 1)
        self.scale = scale
        self.act = activation

    def forward(self, maps: Tensor) -> Tensor:
        together = torch.cat([self.get_submodule(name)(maps) for name in self.names], dim=1)
        total: Tensor = self.act(self.conv2d(together) * self.scale + maps)
        return total

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


def block_a(channels: int, double: tuple[int, int]) -> InceptionResidual:
    """Return Inception-ResNet-A: 1×1, 3×3, and double 3×3 of ``double`` filters."""
    first, second = double
    branches: list[nn.Module] = [
        ConvNormReLU(channels, 32, 1),
        nn.Sequential(ConvNormReLU(channels, 32, 1), ConvNormReLU(32, 32, 3, padding=1)),
        nn.Sequential(
            ConvNormReLU(channels, 32, 1),
            ConvNormReLU(32, first, 3, padding=1),
            ConvNormReLU(first, second, 3, padding=1),
        ),
    ]
    return InceptionResidual(channels, branches, 64 + second, 0.17, nn.ReLU(inplace=True))


def block_b(channels: int, filters: int, seven: tuple[int, int, int]) -> InceptionResidual:
    """Return Inception-ResNet-B: 1×1 of ``filters``, and 1×1, 1×7 and 7×1 of ``seven`` one after another."""
    return InceptionResidual(
        channels, _wide_branches(channels, filters, seven, 7), filters + seven[2], 0.10, nn.ReLU(inplace=True)
    )


def block_c(channels: int, three: tuple[int, int, int], *, last: bool = False) -> InceptionResidual:
    """Return Inception-ResNet-C: 1×1 of 192, and 1×1, 1×3 and 3×1 of ``three`` one after another.

    The ``last`` one is neither scaled nor followed by ReLU.
    """
    branches = _wide_branches(channels, 192, three, 3)
    if last:
        return InceptionResidual(channels, branches, 192 + three[2], 1.0, nn.Identity())
    return InceptionResidual(channels, branches, 192 + three[2], 0.20, nn.ReLU(inplace=True))


def _wide_branches(channels: int, filters: int, wide: tuple[int, int, int], window: int) -> list[nn.Module]:
    first, second, third = wide
    return [
        ConvNormReLU(channels, filters, 1),
        nn.Sequential(
            ConvNormReLU(channels, first, 1), along_rows(first, second, window), along_columns(second, third, window)
        ),
    ]


def mixed_5b() -> Concat:
    """Return the block from 192 to 320 maps: 1×1, 5×5, double 3×3 and pool side by side."""
    return concat(
        {
            "branch0": ConvNormReLU(192, 96, 1),
            "branch1": nn.Sequential(ConvNormReLU(192, 48, 1), ConvNormReLU(48, 64, 5, padding=2)),
            "branch2": nn.Sequential(
                ConvNormReLU(192, 64, 1), ConvNormReLU(64, 96, 3, padding=1), ConvNormReLU(96, 96, 3, padding=1)
            ),
            "branch3": nn.Sequential(nn.AvgPool2d(3, 1, padding=1, count_include_pad=False), ConvNormReLU(192, 64, 1)),
        }
    )


def reduction_a(channels: int, reduced: int, outputs: int) -> Concat:
    """Return Reduction-A: 3×3/2 of 384, double 3×3/2 to ``outputs``, and pool side by side (figure 7, table 1)."""
    return concat(
        {
            "branch0": ConvNormReLU(channels, 384, 3, stride=2),
            "branch1": nn.Sequential(
                ConvNormReLU(channels, reduced, 1),
                ConvNormReLU(reduced, reduced, 3, padding=1),
                ConvNormReLU(reduced, outputs, 3, stride=2),
            ),
            "branch2": nn.MaxPool2d(3, 2),
        }
    )


def reduction_b(channels: int, single: int, double: tuple[int, int]) -> Concat:
    """Return Reduction-B: 3×3/2 of 384, of ``single``, double 3×3/2 of ``double``, and pool (figures 12 and 18)."""
    return concat(
        {
            "branch0": nn.Sequential(ConvNormReLU(channels, 256, 1), ConvNormReLU(256, 384, 3, stride=2)),
            "branch1": nn.Sequential(ConvNormReLU(channels, 256, 1), ConvNormReLU(256, single, 3, stride=2)),
            "branch2": nn.Sequential(
                ConvNormReLU(channels, 256, 1),
                ConvNormReLU(256, double[0], 3, padding=1),
                ConvNormReLU(double[0], double[1], 3, stride=2),
            ),
            "branch3": nn.MaxPool2d(3, 2),
        }
    )


def stem(channels: int) -> dict[str, nn.Module]:
    """Return what brings 3×299×299 pixels to 192×71×71 (figure 14, its first six layers)."""
    return {
        "conv2d_1a": ConvNormReLU(channels, 32, 3, stride=2),
        "conv2d_2a": ConvNormReLU(32, 32, 3),
        "conv2d_2b": ConvNormReLU(32, 64, 3, padding=1),
        "maxpool_3a": nn.MaxPool2d(3, 2),
        "conv2d_3b": ConvNormReLU(64, 80, 1),
        "conv2d_4a": ConvNormReLU(80, 192, 3),
    }


@final
class InceptionResNet(nn.Module):
    """A chain of layers, global average pooling, a chain of layers on the features.

    Its children run one after another.

    Args:
        layers: from the picture to the last maps.
        head: from the features to the logits; the last is ``classif``.

    Forward: images (N, C, H, W) → logits (N, K).
    """

    def __init__(self, layers: dict[str, nn.Module], head: dict[str, nn.Module]) -> None:
        super().__init__()
        pool = {"global_pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        for name, layer in {**layers, **pool, **head}.items():
            self.add_module(name, layer)
        initialise(self)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The rows of the table, block by block, input to output."""
        stages: dict[str, nn.Module] = {}
        for name, layer in self.named_children():
            if name.startswith("repeat"):
                stages |= {f"{name}.{number}": block for number, block in layer.named_children()}
            elif name not in ("flatten", "head_drop", "bottleneck_norm"):
                stages[name] = layer
        return stages

    @property
    def head(self) -> nn.Module:
        """The layer whose outputs are the logits."""
        return self.get_submodule("classif")

    def forward(self, images: Tensor) -> Tensor:
        maps = images
        for layer in self.children():
            maps = layer(maps)
        return maps


@enter("inceptionresnetv1", year=2016, title="Inception-ResNet v1", paper=_PAPER, shape=(3, 299, 299), classes=1000)
def inceptionresnetv1(*, shape: tuple[int, int, int], classes: int, dropout: float = 0.6) -> InceptionResNet:
    """Return Inception-ResNet v1 with 23,995,624 parameters for 1000 classes; pictures of at least 75×75."""
    refuse_below(_LEAST, "inceptionresnetv1", shape)
    layers: dict[str, nn.Module] = {
        **stem(shape[0]),
        "conv2d_4b": ConvNormReLU(192, 256, 3, stride=2),
        "repeat": nn.Sequential(*(block_a(256, (32, 32)) for _ in range(5))),
        "mixed_6a": reduction_a(256, 192, 256),
        "repeat_1": nn.Sequential(*(block_b(896, 128, (128, 128, 128)) for _ in range(10))),
        "mixed_7a": reduction_b(896, 256, (256, 256)),
        "repeat_2": nn.Sequential(*(block_c(1792, (192, 192, 192)) for _ in range(5))),
        "block8": block_c(1792, (192, 192, 192), last=True),
    }
    head: dict[str, nn.Module] = {
        "head_drop": nn.Dropout(dropout),
        "bottleneck": nn.Linear(1792, 512, bias=False),
        "bottleneck_norm": nn.BatchNorm1d(512, eps=0.001),
        "classif": nn.Linear(512, classes),
    }
    return InceptionResNet(layers, head)


@enter("inception_resnet_v2", year=2016, title="Inception-ResNet v2", paper=_PAPER, shape=(3, 299, 299), classes=1000)
def inception_resnet_v2(*, shape: tuple[int, int, int], classes: int, dropout: float = 0.0) -> InceptionResNet:
    """Return Inception-ResNet v2 with 55,843,464 parameters for 1000 classes; pictures of at least 75×75."""
    refuse_below(_LEAST, "inception_resnet_v2", shape)
    layers: dict[str, nn.Module] = {
        **stem(shape[0]),
        "maxpool_5a": nn.MaxPool2d(3, 2),
        "mixed_5b": mixed_5b(),
        "repeat": nn.Sequential(*(block_a(320, (48, 64)) for _ in range(10))),
        "mixed_6a": reduction_a(320, 256, 384),
        "repeat_1": nn.Sequential(*(block_b(1088, 192, (128, 160, 192)) for _ in range(20))),
        "mixed_7a": reduction_b(1088, 288, (288, 320)),
        "repeat_2": nn.Sequential(*(block_c(2080, (192, 224, 256)) for _ in range(9))),
        "block8": block_c(2080, (192, 224, 256), last=True),
        "conv2d_7b": ConvNormReLU(2080, 1536, 1),
    }
    head: dict[str, nn.Module] = {"head_drop": nn.Dropout(dropout), "classif": nn.Linear(1536, classes)}
    return InceptionResNet(layers, head)
