"""Inception v4: the Inception network made uniform.

C. Szegedy, S. Ioffe, V. Vanhoucke, A. Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning, AAAI 2017, sections 3.1 and figures 3 to 9.

Freed from the constraints of earlier software, every block of one resolution is the same. The stem already branches,
and 7×7 and 3×3 windows are taken apart into 1×7 and 7×1, 1×3 and 3×1.

================  ============  ====================================
stage             output        what
================  ============  ====================================
features.0        32×149×149    3×3/2
features.1        32×147×147    3×3
features.2        64×147×147    3×3, padded
features.3        160×73×73     pool and 3×3/2 side by side
features.4        192×71×71     3×3 and 7×1, 1×7, 3×3 side by side
features.5        384×35×35     3×3/2 and pool side by side
features.6 – 9    384×35×35     4 × Inception-A
features.10       1024×17×17    Reduction-A
features.11 – 17  1024×17×17    7 × Inception-B
features.18       1536×8×8      Reduction-B
features.19 – 21  1536×8×8      3 × Inception-C
global_pool       1536×1×1
last_linear       1000
================  ============  ====================================

``inception_v4`` has the layout of timm's (42,679,816 parameters), whose published weights fit. It differs from the
paper in the order of 1×7 and 7×1 in places, and in dropping no features unless told to: the paper drops 0.2.
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


def stem(channels: int) -> list[nn.Module]:
    """Return what brings 3×299×299 pixels to 384×35×35 (figure 3)."""
    return [
        ConvNormReLU(channels, 32, 3, stride=2),
        ConvNormReLU(32, 32, 3),
        ConvNormReLU(32, 64, 3, padding=1),
        concat({"maxpool": nn.MaxPool2d(3, 2), "conv": ConvNormReLU(64, 96, 3, stride=2)}),
        concat(
            {
                "branch0": nn.Sequential(ConvNormReLU(160, 64, 1), ConvNormReLU(64, 96, 3)),
                "branch1": nn.Sequential(
                    ConvNormReLU(160, 64, 1), along_rows(64, 64, 7), along_columns(64, 64, 7), ConvNormReLU(64, 96, 3)
                ),
            }
        ),
        concat({"conv": ConvNormReLU(192, 192, 3, stride=2), "maxpool": nn.MaxPool2d(3, 2)}),
    ]


def inception_a() -> Concat:
    """Return a block on 384×35×35 maps (figure 4)."""
    return concat(
        {
            "branch0": ConvNormReLU(384, 96, 1),
            "branch1": nn.Sequential(ConvNormReLU(384, 64, 1), ConvNormReLU(64, 96, 3, padding=1)),
            "branch2": nn.Sequential(
                ConvNormReLU(384, 64, 1), ConvNormReLU(64, 96, 3, padding=1), ConvNormReLU(96, 96, 3, padding=1)
            ),
            "branch3": nn.Sequential(_average(), ConvNormReLU(384, 96, 1)),
        }
    )


def reduction_a() -> Concat:
    """Return the block from 384×35×35 to 1024×17×17 maps (figure 7, table 1)."""
    return concat(
        {
            "branch0": ConvNormReLU(384, 384, 3, stride=2),
            "branch1": nn.Sequential(
                ConvNormReLU(384, 192, 1), ConvNormReLU(192, 224, 3, padding=1), ConvNormReLU(224, 256, 3, stride=2)
            ),
            "branch2": nn.MaxPool2d(3, 2),
        }
    )


def inception_b() -> Concat:
    """Return a block on 1024×17×17 maps (figure 5)."""
    return concat(
        {
            "branch0": ConvNormReLU(1024, 384, 1),
            "branch1": nn.Sequential(ConvNormReLU(1024, 192, 1), along_rows(192, 224, 7), along_columns(224, 256, 7)),
            "branch2": nn.Sequential(
                ConvNormReLU(1024, 192, 1),
                along_columns(192, 192, 7),
                along_rows(192, 224, 7),
                along_columns(224, 224, 7),
                along_rows(224, 256, 7),
            ),
            "branch3": nn.Sequential(_average(), ConvNormReLU(1024, 128, 1)),
        }
    )


def reduction_b() -> Concat:
    """Return the block from 1024×17×17 to 1536×8×8 maps (figure 8)."""
    return concat(
        {
            "branch0": nn.Sequential(ConvNormReLU(1024, 192, 1), ConvNormReLU(192, 192, 3, stride=2)),
            "branch1": nn.Sequential(
                ConvNormReLU(1024, 256, 1),
                along_rows(256, 256, 7),
                along_columns(256, 320, 7),
                ConvNormReLU(320, 320, 3, stride=2),
            ),
            "branch2": nn.MaxPool2d(3, 2),
        }
    )


@final
class InceptionC(nn.Module):
    """A block whose 3×3 windows end as 1×3 and 3×1 side by side (figure 6).

    Forward: maps (N, 1536, H, W) → (N, 1536, H, W).
    """

    def __init__(self) -> None:
        super().__init__()
        self.branch0 = ConvNormReLU(1536, 256, 1)
        self.branch1_0 = ConvNormReLU(1536, 384, 1)
        self.branch1_1a = along_rows(384, 256, 3)
        self.branch1_1b = along_columns(384, 256, 3)
        self.branch2_0 = ConvNormReLU(1536, 384, 1)
        self.branch2_1 = along_columns(384, 448, 3)
        self.branch2_2 = along_rows(448, 512, 3)
        self.branch2_3a = along_rows(512, 256, 3)
        self.branch2_3b = along_columns(512, 256, 3)
        self.branch3 = nn.Sequential(_average(), ConvNormReLU(1536, 256, 1))

    def forward(self, maps: Tensor) -> Tensor:
        single = self.branch1_0(maps)
        double = self.branch2_2(self.branch2_1(self.branch2_0(maps)))
        return torch.cat(
            [
                self.branch0(maps),
                self.branch1_1a(single),
                self.branch1_1b(single),
                self.branch2_3a(double),
                self.branch2_3b(double),
                self.branch3(maps),
            ],
            dim=1,
        )


@final
class InceptionV4(nn.Module):
    """Stem, 4 Inception-A, Reduction-A, 7 Inception-B, Reduction-B, 3 Inception-C, global average pooling (figure 9).

    Args:
        shape: (C, H, W); H and W at least 75.
        classes: K.
        dropout: share of the 1536 features that training drops before the last layer.

    Forward: images (N, C, H, W) → logits (N, K).

    Raises:
        NetworkError: the pictures are too small.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, dropout: float) -> None:
        super().__init__()
        refuse_below(_LEAST, "inception_v4", shape)
        self.features = nn.Sequential(
            *stem(shape[0]),
            *(inception_a() for _ in range(4)),
            reduction_a(),
            *(inception_b() for _ in range(7)),
            reduction_b(),
            *(InceptionC() for _ in range(3)),
        )
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.head_drop = nn.Dropout(dropout)
        self.last_linear = nn.Linear(1536, classes)
        initialise(self)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The rows of the table, block by block, input to output."""
        blocks = {f"features.{name}": block for name, block in self.features.named_children()}
        return {**blocks, "global_pool": self.global_pool, "last_linear": self.last_linear}

    @property
    def head(self) -> nn.Linear:
        """The layer whose outputs are the logits."""
        return self.last_linear

    def forward(self, images: Tensor) -> Tensor:
        maps = self.features(images)  # (N, 1536, H/32, W/32)
        features = self.global_pool(maps).flatten(1)  # (N, 1536)
        logits: Tensor = self.last_linear(self.head_drop(features))
        return logits


def _average() -> nn.AvgPool2d:
    """The average of a pixel and its neighbours, of those that there are."""
    return nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)


@enter("inception_v4", year=2016, title="Inception v4", paper=_PAPER, shape=(3, 299, 299), classes=1000)
def inception_v4(*, shape: tuple[int, int, int], classes: int, dropout: float = 0.0) -> InceptionV4:
    """Return Inception v4 with 42,679,816 parameters for 1000 classes."""
    return InceptionV4(shape, classes, dropout=dropout)
