"""GoogLeNet: deeper and wider for the same cost.

C. Szegedy, W. Liu, Y. Jia, P. Sermanet, S. Reed, D. Anguelov, D. Erhan, V. Vanhoucke, A. Rabinovich: Going Deeper with
Convolutions, CVPR 2015, sections 4 and 5, table 1.

An Inception block looks at the same maps through 1×1, 3×3 and 5×5 windows and a pool at once and puts the answers
side by side; 1×1 convolutions first make the maps few, so that the wide windows stay cheap. Two auxiliary classifiers
feed the gradient in half-way down; they go away after training.

================  ===============  =====  ===========  ===========  ====  ===================  ==========
stage             output           #1×1   #3×3 (from)  #5×5 (from)  pool  ``googlenet_paper``  table 1
================  ===============  =====  ===========  ===========  ====  ===================  ==========
conv1 7×7/2       64×112×112                                              9,408                2.7K
maxpool1          64×56×56
conv2, conv3 3×3  192×56×56               192 (64)                        114,688              112K
maxpool2          192×28×28
inception3a       256×28×28        64     128 (96)     32 (16)      32    163,328              159K
inception3b       480×28×28        128    192 (128)    96 (32)      64    388,096              380K
maxpool3          480×14×14
inception4a       512×14×14        192    208 (96)     48 (16)      64    375,552              364K
inception4b       512×14×14        160    224 (112)    64 (24)      64    448,512              437K
inception4c       512×14×14        128    256 (128)    64 (24)      64    509,440              463K
inception4d       528×14×14        112    288 (144)    64 (32)      64    604,672              580K
inception4e       832×14×14        256    320 (160)    128 (32)     128   867,328              840K
maxpool4          832×7×7
inception5a       832×7×7          256    320 (160)    128 (32)     128   1,042,432            1072K
inception5b       1024×7×7         384    384 (192)    128 (48)     128   1,442,816            1388K
avgpool           1024×1×1
fc                1000                                                    1,024,000            1000K
weights                                                                   6,990,272            6,797.7K
================  ===============  =====  ===========  ===========  ====  ===================  ==========

The weights are those of the sizes in the paper's own table; with 8,280 biases the network has 6,998,552 parameters. The
paper's last column counts in 1024s, sums to 6,797.7K and does not quite follow from its sizes: 2.7K is no 7×7
convolution of 3 channels, 4c is 7 % too small, 5a 5 % too large.

``googlenet`` is the network that goes by that name today, torchvision's, whose published weights fit. It differs from
the paper, which is ``googlenet_paper``:

- batch norm follows every convolution, which therefore has no bias; there is no local response normalisation;
- the branch of 5×5 windows has 3×3 windows;
- maxpool4 is 2×2 instead of 3×3;
- the auxiliary classifiers average to 4×4 maps by adaptive pooling, not by 5×5 windows at stride 3;
- dropout before the last layer is 0.2 instead of 0.4.

``googlenet_paper`` has the local response normalisation of Krizhevsky et al. 2012, because the paper gives no numbers
for its own. Away from 224×224 pixels, its auxiliary classifiers average to 4×4 maps adaptively, too. Both draw their
first weights after He et al. 2015, which the paper does not say.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from striate.networks.contract import Outputs
from striate.networks.layers.branches import Concat
from striate.networks.layers.normalisation import local_response_norm
from striate.networks.zoo.blocks import ConvNormReLU, initialise, refuse_below
from striate.networks.zoo.registry import enter

_PAPER = "Szegedy et al., Going Deeper with Convolutions, CVPR 2015"
_LEAST = {"googlenet": 15, "googlenet_paper": 31}  # pixels: what leaves every pool something
_AUXILIARY_WEIGHT = 0.3  # of each auxiliary loss (section 5)


@final
class ConvReLU(nn.Module):
    """Convolution with bias, ReLU. Forward: maps (N, inputs, H, W) → (N, outputs, H', W')."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, stride, padding)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        activations: Tensor = self.relu(self.conv(maps))
        return activations


Convolution = Callable[..., ConvReLU | ConvNormReLU]


def inception(
    inputs: int,
    ones: int,
    threes: tuple[int, int],
    fives: tuple[int, int],
    projection: int,
    *,
    convolution: Convolution,
    widest: int,
) -> Concat:
    """Return an Inception block with dimension reduction (figure 2b).

    Args:
        inputs: channels of the maps.
        ones: filters of the 1×1 branch.
        threes, fives: filters of the 1×1 and of the wider convolution in the branches of 3×3 and 5×5.
        projection: filters after the pool.
        convolution: the class of the convolutions.
        widest: window of the branch of 5×5, in pixels; 5 in the paper.
    """
    return Concat(
        [
            convolution(inputs, ones, 1),
            nn.Sequential(convolution(inputs, threes[0], 1), convolution(*threes, 3, padding=1)),
            nn.Sequential(convolution(inputs, fives[0], 1), convolution(*fives, widest, padding=widest // 2)),
            nn.Sequential(nn.MaxPool2d(3, 1, padding=1, ceil_mode=True), convolution(inputs, projection, 1)),
        ]
    )


@final
class AuxiliaryClassifier(nn.Module):
    """Pool to 4×4, 1×1 convolution, two fully connected layers (section 5).

    Args:
        inputs: channels of the maps.
        classes: K.
        convolution: the class of its convolution.
        published: whether 14×14 maps are averaged in windows of 5×5 at stride 3, as in the paper. Maps that this does
            not bring to 4×4 are averaged adaptively.

    Forward: maps (N, inputs, H, W) of any size → logits (N, K).
    """

    def __init__(self, inputs: int, classes: int, convolution: Convolution, published: bool) -> None:
        super().__init__()
        self.published = published
        self.conv = convolution(inputs, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, classes)

    def forward(self, maps: Tensor) -> Tensor:
        if self.published and all((side - 5) // 3 + 1 == 4 for side in maps.shape[2:]):
            maps = F.avg_pool2d(maps, 5, 3)
        else:
            maps = F.adaptive_avg_pool2d(maps, 4)
        features = self.conv(maps).flatten(1)  # (N, 2048)
        logits: Tensor = self.fc2(self.dropout(self.relu(self.fc1(features))))
        return logits


@final
class GoogLeNet(nn.Module):
    """Three convolutions, nine Inception blocks, global average pooling; two auxiliary classifiers in training.

    Args:
        shape: (C, H, W); H and W at least 15, for the paper's 31.
        classes: K.
        published: the paper's network instead of torchvision's; the module's docstring has the differences.
        dropout: share of the 1024 features that training drops before the last layer.

    Forward: images (N, C, H, W) → logits (N, K); in training mode `Outputs` with those of ``aux1`` and ``aux2``.

    Raises:
        NetworkError: the pictures are too small.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, published: bool, dropout: float) -> None:
        super().__init__()
        name = "googlenet_paper" if published else "googlenet"
        refuse_below(_LEAST[name], name, shape)
        convolution: Convolution = ConvReLU if published else ConvNormReLU
        self.conv1 = convolution(shape[0], 64, 7, stride=2, padding=3)
        self.maxpool1 = _halving(3)
        self.norm1 = local_response_norm() if published else nn.Identity()
        self.conv2 = convolution(64, 64, 1)
        self.conv3 = convolution(64, 192, 3, padding=1)
        self.norm2 = local_response_norm() if published else nn.Identity()
        self.maxpool2 = _halving(3)
        block = partial(inception, convolution=convolution, widest=5 if published else 3)
        self.inception3a = block(192, 64, (96, 128), (16, 32), 32)
        self.inception3b = block(256, 128, (128, 192), (32, 96), 64)
        self.maxpool3 = _halving(3)
        self.inception4a = block(480, 192, (96, 208), (16, 48), 64)
        self.inception4b = block(512, 160, (112, 224), (24, 64), 64)
        self.inception4c = block(512, 128, (128, 256), (24, 64), 64)
        self.inception4d = block(512, 112, (144, 288), (32, 64), 64)
        self.inception4e = block(528, 256, (160, 320), (32, 128), 128)
        self.maxpool4 = _halving(3 if published else 2)
        self.inception5a = block(832, 256, (160, 320), (32, 128), 128)
        self.inception5b = block(832, 384, (192, 384), (48, 128), 128)
        self.aux1 = AuxiliaryClassifier(512, classes, convolution, published)
        self.aux2 = AuxiliaryClassifier(528, classes, convolution, published)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1024, classes)
        initialise(self)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The rows of table 1, input to output."""
        apart = ("norm1", "norm2", "aux1", "aux2", "dropout")
        return {name: module for name, module in self.named_children() if name not in apart}

    @property
    def head(self) -> nn.Linear:
        """The layer whose outputs are the logits."""
        return self.fc

    @property
    def auxiliary(self) -> dict[str, float]:
        """Each auxiliary classifier and the weight of its loss."""
        return {"aux1": _AUXILIARY_WEIGHT, "aux2": _AUXILIARY_WEIGHT}

    def forward(self, images: Tensor) -> Tensor | Outputs:
        maps = self.norm1(self.maxpool1(self.conv1(images)))  # (N, 64, H/4, W/4)
        maps = self.maxpool2(self.norm2(self.conv3(self.conv2(maps))))  # (N, 192, H/8, W/8)
        maps = self.inception3b(self.inception3a(maps))
        after_4a = self.inception4a(self.maxpool3(maps))  # (N, 512, H/16, W/16)
        after_4d = self.inception4d(self.inception4c(self.inception4b(after_4a)))
        maps = self.maxpool4(self.inception4e(after_4d))  # (N, 832, H/32, W/32)
        maps = self.inception5b(self.inception5a(maps))
        features = self.avgpool(maps).flatten(1)  # (N, 1024)
        logits: Tensor = self.fc(self.dropout(features))
        if not self.training:
            return logits
        return Outputs(logits, {"aux1": self.aux1(after_4a), "aux2": self.aux2(after_4d)})


def _halving(kernel_size: int) -> nn.MaxPool2d:
    return nn.MaxPool2d(kernel_size, 2, ceil_mode=True)


@enter("googlenet", year=2014, title="GoogLeNet as built today", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def googlenet(*, shape: tuple[int, int, int], classes: int, dropout: float = 0.2) -> GoogLeNet:
    """Return torchvision's GoogLeNet with auxiliary classifiers: 13,004,888 parameters, 6,379,984 of them in those."""
    return GoogLeNet(shape, classes, published=False, dropout=dropout)


@enter("googlenet_paper", year=2014, title="GoogLeNet as published", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def googlenet_paper(*, shape: tuple[int, int, int], classes: int, dropout: float = 0.4) -> GoogLeNet:
    """Return GoogLeNet without batch norm: 6,998,552 parameters, and 6,379,728 in its auxiliary classifiers."""
    return GoogLeNet(shape, classes, published=True, dropout=dropout)
