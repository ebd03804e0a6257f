"""Inception v3: convolutions taken apart.

C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna: Rethinking the Inception Architecture for Computer Vision, CVPR
2016, sections 3 to 6, table 1.

A wide window costs more than several narrow ones that see as far: 5×5 becomes two of 3×3, 7×7 becomes 1×7 and 7×1. The
size is halved by convolution and pooling side by side, so that no maps are lost before there are more of them. One
auxiliary classifier with batch norm regularises the training.

==============  ============  ================================================
stage           output        what
==============  ============  ================================================
Conv2d_1a_3x3   32×149×149    3×3/2
Conv2d_2a_3x3   32×147×147    3×3
Conv2d_2b_3x3   64×147×147    3×3, padded
maxpool1        64×73×73      3×3/2
Conv2d_3b_1x1   80×73×73      1×1
Conv2d_4a_3x3   192×71×71     3×3
maxpool2        192×35×35     3×3/2
Mixed_5b        256×35×35     1×1, 5×5, double 3×3, pool (figure 5)
Mixed_5c – 5d   288×35×35     the same with more of the pool
Mixed_6a        768×17×17     3×3/2, double 3×3/2, pool/2 (figure 10)
Mixed_6b – 6e   768×17×17     1×1, 7×7, double 7×7, pool (figure 6)
AuxLogits       K             training only
Mixed_7a        1280×8×8      3×3/2, 7×7 then 3×3/2, pool/2
Mixed_7b – 7c   2048×8×8      1×1, 3×3, double 3×3, pool (figure 7)
avgpool         2048×1×1
fc              1000
==============  ============  ================================================

``inception_v3`` is torchvision's without transformation of the input (27,161,264 parameters, 3,326,696 of them in the
auxiliary classifier), whose published weights fit. That is the network that the authors published, which is not quite
their table 1: that has 3×3 convolutions with 80, 192 (at stride 2) and 288 filters where the network has 1×1 with 80,
3×3 with 192 and a pool, and figure 5 has two 3×3 windows where the blocks at 35×35 have kept one of 5×5. The auxiliary
loss weighs 0.4, as in the authors' training program; the paper gives no number.

Its auxiliary classifier differs from torchvision's in what sizes it takes: there, training needs 299×299 pixels. Here,
maps under 17×17 are averaged to the 5×5 that its convolution needs.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.networks.contract import Outputs
from striate.networks.zoo.blocks import ConvNormReLU, along_columns, along_rows, initialise, refuse_below
from striate.networks.zoo.registry import enter

_PAPER = "Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016"
_LEAST = 75  # pixels: what leaves one after unpadded convolutions and five halvings


@final
class InceptionA(nn.Module):
    """1×1, 5×5, double 3×3 and pool side by side. Forward: (N, inputs, H, W) → (N, 224 + projection, H, W)."""

    def __init__(self, inputs: int, projection: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNormReLU(inputs, 64, 1)
        self.branch5x5_1 = ConvNormReLU(inputs, 48, 1)
        self.branch5x5_2 = ConvNormReLU(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvNormReLU(inputs, 64, 1)
        self.branch3x3dbl_2 = ConvNormReLU(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNormReLU(96, 96, 3, padding=1)
        self.pool = nn.AvgPool2d(3, 1, padding=1)
        self.branch_pool = ConvNormReLU(inputs, projection, 1)

    def forward(self, maps: Tensor) -> Tensor:
        single = self.branch1x1(maps)
        five = self.branch5x5_2(self.branch5x5_1(maps))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(maps)))
        return torch.cat([single, five, double, self.branch_pool(self.pool(maps))], dim=1)


@final
class ReductionA(nn.Module):
    """3×3/2, double 3×3/2 and pool/2 side by side. Forward: (N, inputs, H, W) → (N, 480 + inputs, H', W')."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNormReLU(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvNormReLU(inputs, 64, 1)
        self.branch3x3dbl_2 = ConvNormReLU(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNormReLU(96, 96, 3, stride=2)
        self.pool = nn.MaxPool2d(3, 2)

    def forward(self, maps: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(maps)))
        return torch.cat([self.branch3x3(maps), double, self.pool(maps)], dim=1)


@final
class InceptionB(nn.Module):
    """1×1, 7×7, double 7×7 and pool side by side, 7×7 as 1×7 and 7×1; ``width`` filters inside the branches.

    Forward: (N, 768, H, W) → (N, 768, H, W).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNormReLU(768, 192, 1)
        self.branch7x7_1 = ConvNormReLU(768, width, 1)
        self.branch7x7_2 = along_rows(width, width, 7)
        self.branch7x7_3 = along_columns(width, 192, 7)
        self.branch7x7dbl_1 = ConvNormReLU(768, width, 1)
        self.branch7x7dbl_2 = along_columns(width, width, 7)
        self.branch7x7dbl_3 = along_rows(width, width, 7)
        self.branch7x7dbl_4 = along_columns(width, width, 7)
        self.branch7x7dbl_5 = along_rows(width, 192, 7)
        self.pool = nn.AvgPool2d(3, 1, padding=1)
        self.branch_pool = ConvNormReLU(768, 192, 1)

    def forward(self, maps: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(maps)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(maps)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(maps), seven, double, self.branch_pool(self.pool(maps))], dim=1)


@final
class ReductionB(nn.Module):
    """3×3/2, 7×7 then 3×3/2, and pool/2 side by side. Forward: (N, 768, H, W) → (N, 1280, H', W')."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = ConvNormReLU(768, 192, 1)
        self.branch3x3_2 = ConvNormReLU(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvNormReLU(768, 192, 1)
        self.branch7x7x3_2 = along_rows(192, 192, 7)
        self.branch7x7x3_3 = along_columns(192, 192, 7)
        self.branch7x7x3_4 = ConvNormReLU(192, 192, 3, stride=2)
        self.pool = nn.MaxPool2d(3, 2)

    def forward(self, maps: Tensor) -> Tensor:
        single = self.branch3x3_2(self.branch3x3_1(maps))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(maps)))
        return torch.cat([single, self.branch7x7x3_4(seven), self.pool(maps)], dim=1)


@final
class InceptionC(nn.Module):
    """1×1, 3×3, double 3×3 and pool side by side, the last 3×3 of each as 1×3 and 3×1 side by side.

    Forward: (N, inputs, H, W) → (N, 2048, H, W).
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNormReLU(inputs, 320, 1)
        self.branch3x3_1 = ConvNormReLU(inputs, 384, 1)
        self.branch3x3_2a = along_rows(384, 384, 3)
        self.branch3x3_2b = along_columns(384, 384, 3)
        self.branch3x3dbl_1 = ConvNormReLU(inputs, 448, 1)
        self.branch3x3dbl_2 = ConvNormReLU(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = along_rows(384, 384, 3)
        self.branch3x3dbl_3b = along_columns(384, 384, 3)
        self.pool = nn.AvgPool2d(3, 1, padding=1)
        self.branch_pool = ConvNormReLU(inputs, 192, 1)

    def forward(self, maps: Tensor) -> Tensor:
        single = self.branch3x3_1(maps)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(maps))
        return torch.cat(
            [
                self.branch1x1(maps),
                self.branch3x3_2a(single),
                self.branch3x3_2b(single),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(self.pool(maps)),
            ],
            dim=1,
        )


@final
class AuxiliaryClassifier(nn.Module):
    """Average pooling, 1×1 and 5×5 convolutions, global average, fully connected layer (figure 8).

    Forward: maps (N, 768, H, W) of any size → logits (N, K).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv0 = ConvNormReLU(768, 128, 1)
        self.conv1 = ConvNormReLU(128, 768, 5)
        self.fc = nn.Linear(768, classes)

    def forward(self, maps: Tensor) -> Tensor:
        large = min(maps.shape[2:]) >= 17
        maps = F.avg_pool2d(maps, 5, 3) if large else F.adaptive_avg_pool2d(maps, 5)  # at least 5×5
        features = self.conv1(self.conv0(maps)).mean((2, 3))  # (N, 768)
        logits: Tensor = self.fc(features)
        return logits


@final
class InceptionV3(nn.Module):
    """Six convolutions and pools, eleven Inception blocks, global average pooling; an auxiliary classifier in training.

    Its children run one after another, ``AuxLogits`` aside.

    Args:
        shape: (C, H, W); H and W at least 75.
        classes: K.
        dropout: share of the 2048 features that training drops before the last layer.

    Forward: images (N, C, H, W) → logits (N, K); in training mode `Outputs` with those of ``AuxLogits``.

    Raises:
        NetworkError: the pictures are too small.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, dropout: float) -> None:
        super().__init__()
        refuse_below(_LEAST, "inception_v3", shape)
        layers: dict[str, nn.Module] = {
            "Conv2d_1a_3x3": ConvNormReLU(shape[0], 32, 3, stride=2),
            "Conv2d_2a_3x3": ConvNormReLU(32, 32, 3),
            "Conv2d_2b_3x3": ConvNormReLU(32, 64, 3, padding=1),
            "maxpool1": nn.MaxPool2d(3, 2),
            "Conv2d_3b_1x1": ConvNormReLU(64, 80, 1),
            "Conv2d_4a_3x3": ConvNormReLU(80, 192, 3),
            "maxpool2": nn.MaxPool2d(3, 2),
            "Mixed_5b": InceptionA(192, 32),
            "Mixed_5c": InceptionA(256, 64),
            "Mixed_5d": InceptionA(288, 64),
            "Mixed_6a": ReductionA(288),
            "Mixed_6b": InceptionB(128),
            "Mixed_6c": InceptionB(160),
            "Mixed_6d": InceptionB(160),
            "Mixed_6e": InceptionB(192),
            "AuxLogits": AuxiliaryClassifier(classes),
            "Mixed_7a": ReductionB(),
            "Mixed_7b": InceptionC(1280),
            "Mixed_7c": InceptionC(2048),
            "avgpool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "dropout": nn.Dropout(dropout),
            "fc": nn.Linear(2048, classes),
        }
        for name, layer in layers.items():
            self.add_module(name, layer)
        initialise(self)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The rows of the table, input to output."""
        apart = ("AuxLogits", "flatten", "dropout")
        return {name: module for name, module in self.named_children() if name not in apart}

    @property
    def head(self) -> nn.Module:
        """The layer whose outputs are the logits."""
        return self.get_submodule("fc")

    @property
    def auxiliary(self) -> dict[str, float]:
        """The auxiliary classifier and the weight of its loss."""
        return {"AuxLogits": 0.4}

    def forward(self, images: Tensor) -> Tensor | Outputs:
        maps, auxiliary = images, {}
        for name, layer in self.named_children():
            if name != "AuxLogits":
                maps = layer(maps)
            elif self.training:
                auxiliary[name] = layer(maps)
        return Outputs(maps, auxiliary) if self.training else maps


@enter("inception_v3", year=2015, title="Inception v3", paper=_PAPER, shape=(3, 299, 299), classes=1000)
def inception_v3(*, shape: tuple[int, int, int], classes: int, dropout: float = 0.5) -> InceptionV3:
    """Return torchvision's Inception v3 with its auxiliary classifier: 27,161,264 parameters for 1000 classes."""
    return InceptionV3(shape, classes, dropout=dropout)
