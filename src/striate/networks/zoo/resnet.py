"""ResNet: layers that learn what to add to their input.

K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016, sections 3.3, 4.1 and 4.2.

A stack of layers finds it easier to learn a correction to its input than the whole of its output, so the input goes
round the stack through a shortcut and is added at its end. Where the shapes agree the shortcut is the identity, and
gradients reach the first layer of a hundred.

For ImageNet (table 1); each number in a row of blocks is a convolution of that size:

=============  ========  =========  =========  ============  ============  ============
stage          output    18         34         50            101           152
=============  ========  =========  =========  ============  ============  ============
``conv1``      112×112   7×7, 64 filters, stride 2
``maxpool``    56×56     3×3, stride 2
``layer1``     56×56     (3, 3)×2   (3, 3)×3   (1, 3, 1)×3   (1, 3, 1)×3   (1, 3, 1)×3
``layer2``     28×28     (3, 3)×2   (3, 3)×4   (1, 3, 1)×4   (1, 3, 1)×4   (1, 3, 1)×8
``layer3``     14×14     (3, 3)×2   (3, 3)×6   (1, 3, 1)×6   (1, 3, 1)×23  (1, 3, 1)×36
``layer4``     7×7       (3, 3)×2   (3, 3)×3   (1, 3, 1)×3   (1, 3, 1)×3   (1, 3, 1)×3
``avgpool``    1×1       mean of each map
``fc``         K         linear
filters                  64, 128, 256, 512     256, 512, 1024, 2048 out of a block, a quarter inside
parameters               11.7 M     21.8 M     25.6 M        44.5 M        60.2 M
multiply-adds            1.8 G      3.7 G      4.1 G         7.8 G         11.5 G
=============  ========  =========  =========  ============  ============  ============

``resnet50``, ``resnet101`` and ``resnet152`` are those that go by these names today ("v1.5"): where a bottleneck halves
the picture its 3×3 convolution does, which sees every pixel. In the paper the 1×1 before it does, which drops three
of four; that is ``resnet50_v1`` and so on, with equal parameters and 3.9, 7.6 and 11.3 G multiply-adds. 18 and 34 have
no bottlenecks and one form only. Wherever shapes differ the shortcut is a 1×1 convolution (option B of the paper).

For CIFAR (section 4.2), with n = (depth − 2) / 6:

===========  =======  =====================
stage        output   what
===========  =======  =====================
``conv1``    32×32    3×3, 16 filters
``layer1``   32×32    (3, 3)×n, 16 filters
``layer2``   16×16    (3, 3)×n, 32 filters
``layer3``   8×8      (3, 3)×n, 64 filters
``avgpool``  1×1      mean of each map
``fc``       K        linear
===========  =======  =====================

=========================  =======  =======  =======  =======  =======
parameters                 20       32       44       56       110
=========================  =======  =======  =======  =======  =======
``resnetNN_cifar10``       272,474  466,906  661,338  855,770  1,730,714
``resnetNN_cifar10_paper`` 269,722  464,154  658,586  853,018  1,727,962
=========================  =======  =======  =======  =======  =======

``resnetNN_cifar10_paper`` is the paper's: its shortcuts are identities throughout (option A): where shapes differ every
second pixel is taken and channels of zeros are appended. ``resnetNN_cifar10`` projects instead (option B), as the
weights in circulation do. In spite of the names, any number of classes.

Convolutions begin as He et al. 2015 say. Training the 110 begins, in the paper, with a learning rate of 0.01 until the
training error is below 80 % (about 400 steps), then goes on with 0.1: that warm-up belongs to the recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from striate.networks.layers.stochastic_depth import drop_blocks
from striate.networks.zoo.blocks import initialise_for_backward
from striate.networks.zoo.registry import enter

_PAPER = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016"
_SIMPLE = (64, 128, 256, 512)  # channels that the groups give
_BOTTLENECK = (256, 512, 1024, 2048)

Block = Callable[[int, int, int, nn.Module | None], nn.Module]  # of inputs, outputs, stride, shortcut
Shortcut = Callable[[int, int, int], nn.Module]  # of inputs, outputs, stride


@final
class SimpleBlock(nn.Module):
    """Two 3×3 convolutions and the shortcut round them (figure 5, left).

    Args:
        inputs, outputs: numbers of channels.
        stride: of the first convolution, in pixels.
        shortcut: what makes the input's shape the output's; None where they are equal.

    Forward: (N, inputs, H, W) → (N, outputs, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut
        self.stochastic_depth: nn.Module | None = None  # see drop_blocks
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        residual: Tensor = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(maps)))))
        if self.stochastic_depth is not None:
            residual = self.stochastic_depth(residual)
        residual += maps if self.downsample is None else self.downsample(maps)
        result: Tensor = self.relu2(residual)
        return result


@final
class Bottleneck(nn.Module):
    """A 1×1 convolution to a quarter of the channels, a 3×3, a 1×1 back, and the shortcut (figure 5, right).

    Args:
        inputs, outputs: numbers of channels.
        stride: in pixels.
        shortcut: what makes the input's shape the output's; None where they are equal.
        stride_first: whether the first 1×1 convolution strides, as in the paper, and not the 3×3.

    Forward: (N, inputs, H, W) → (N, outputs, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, shortcut: nn.Module | None, *, stride_first: bool = False
    ) -> None:
        super().__init__()
        width = outputs // 4
        first, second = (stride, 1) if stride_first else (1, stride)
        self.conv1 = nn.Conv2d(inputs, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut
        self.stochastic_depth: nn.Module | None = None  # see drop_blocks
        self.relu3 = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        residual = self.relu1(self.bn1(self.conv1(maps)))
        residual = self.relu2(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        if self.stochastic_depth is not None:
            residual = self.stochastic_depth(residual)
        residual += maps if self.downsample is None else self.downsample(maps)
        result: Tensor = self.relu3(residual)
        return result


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return the shortcut of option B: a 1×1 convolution with batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


@final
class PaddedIdentity(nn.Module):
    """The shortcut of option A: nothing to learn.

    Args:
        inputs, outputs: numbers of channels; channels of zeros make up the difference.
        stride: every so many pixels, one is taken.

    Forward: (N, inputs, H, W) → (N, outputs, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.missing = outputs - inputs
        self.stride = stride

    def forward(self, maps: Tensor) -> Tensor:
        return F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))


def _group(
    block: Block, inputs: int, outputs: int, depth: int, stride: int, shortcut: Shortcut = projection
) -> nn.Sequential:
    """Return ``depth`` blocks, of which the first one changes the shape."""
    changes = stride != 1 or inputs != outputs
    first = block(inputs, outputs, stride, shortcut(inputs, outputs, stride) if changes else None)
    return nn.Sequential(first, *(block(outputs, outputs, 1, None) for _ in range(depth - 1)))


@final
class ResNet(nn.Module):
    """A ResNet for ImageNet.

    Args:
        shape: (C, H, W); any H and W, 224 in the paper. What reaches the last group is a thirty-second of them.
        classes: K.
        block: makes one block.
        outputs: channels that each of the four groups gives.
        depths: blocks of each group.
        stochastic_depth: in training, probability that the last block is left out; those before it less, in proportion.

    Forward: images (N, C, H, W) → logits (N, K).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        *,
        block: Block,
        outputs: tuple[int, int, int, int],
        depths: tuple[int, int, int, int],
        stochastic_depth: float,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = _group(block, 64, outputs[0], depths[0], 1)
        self.layer2 = _group(block, outputs[0], outputs[1], depths[1], 2)
        self.layer3 = _group(block, outputs[1], outputs[2], depths[2], 2)
        self.layer4 = _group(block, outputs[2], outputs[3], depths[3], 2)
        drop_blocks([*self.layer1, *self.layer2, *self.layer3, *self.layer4], stochastic_depth)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(outputs[3], classes)
        initialise_for_backward(self)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The stages of the table, and the norm of the first one, input to output."""
        return {name: module for name, module in self.named_children() if name != "relu"}

    @property
    def head(self) -> nn.Module:
        """The layer whose outputs are the logits."""
        return self.fc

    def forward(self, images: Tensor) -> Tensor:
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (N, 64, H / 4, W / 4)
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))  # (N, 512 or 2048, H / 32, W / 32)
        logits: Tensor = self.fc(self.avgpool(maps).flatten(1))
        return logits


@final
class CifarResNet(nn.Module):
    """A ResNet for CIFAR.

    Args:
        shape: (C, H, W); any H and W, 32 in the paper. What reaches the last group is a quarter of them.
        classes: K.
        depth: layers with weights, 6n + 2.
        shortcut: makes the shortcut where shapes differ.
        stochastic_depth: in training, probability that the last block is left out; those before it less, in proportion.

    Forward: images (N, C, H, W) → logits (N, K).
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, *, depth: int, shortcut: Shortcut, stochastic_depth: float
    ) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(shape[0], 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _group(SimpleBlock, 16, 16, blocks, 1, shortcut)
        self.layer2 = _group(SimpleBlock, 16, 32, blocks, 2, shortcut)
        self.layer3 = _group(SimpleBlock, 32, 64, blocks, 2, shortcut)
        drop_blocks([*self.layer1, *self.layer2, *self.layer3], stochastic_depth)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, classes)
        initialise_for_backward(self)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The stages of the table, and the norm of the first one, input to output."""
        return {name: module for name, module in self.named_children() if name != "relu"}

    @property
    def head(self) -> nn.Module:
        """The layer whose outputs are the logits."""
        return self.fc

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.bn1(self.conv1(images)))  # (N, 16, H, W)
        maps = self.layer3(self.layer2(self.layer1(maps)))  # (N, 64, H / 4, W / 4)
        logits: Tensor = self.fc(self.avgpool(maps).flatten(1))
        return logits


_imagenet = partial(enter, year=2016, paper=_PAPER, shape=(3, 224, 224), classes=1000)
_cifar = partial(enter, year=2016, paper=_PAPER, shape=(3, 32, 32), classes=10)


@_imagenet("resnet18", title="ResNet-18")
def resnet18(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> ResNet:
    """Return the residual network of 18 layers."""
    return ResNet(
        shape, classes, block=SimpleBlock, outputs=_SIMPLE, depths=(2, 2, 2, 2), stochastic_depth=stochastic_depth
    )


@_imagenet("resnet34", title="ResNet-34")
def resnet34(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> ResNet:
    """Return the residual network of 34 layers."""
    return ResNet(
        shape, classes, block=SimpleBlock, outputs=_SIMPLE, depths=(3, 4, 6, 3), stochastic_depth=stochastic_depth
    )


@_imagenet("resnet50", title="ResNet-50 v1.5")
def resnet50(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> ResNet:
    """Return the residual network of 50 layers, whose 3×3 convolutions stride."""
    return ResNet(
        shape, classes, block=Bottleneck, outputs=_BOTTLENECK, depths=(3, 4, 6, 3), stochastic_depth=stochastic_depth
    )


@_imagenet("resnet101", title="ResNet-101 v1.5")
def resnet101(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> ResNet:
    """Return the residual network of 101 layers, whose 3×3 convolutions stride."""
    return ResNet(
        shape, classes, block=Bottleneck, outputs=_BOTTLENECK, depths=(3, 4, 23, 3), stochastic_depth=stochastic_depth
    )


@_imagenet("resnet152", title="ResNet-152 v1.5")
def resnet152(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> ResNet:
    """Return the residual network of 152 layers, whose 3×3 convolutions stride."""
    return ResNet(
        shape, classes, block=Bottleneck, outputs=_BOTTLENECK, depths=(3, 8, 36, 3), stochastic_depth=stochastic_depth
    )


_bottleneck_v1 = partial(Bottleneck, stride_first=True)


@_imagenet("resnet50_v1", title="ResNet-50 as published")
def resnet50_v1(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> ResNet:
    """Return the residual network of 50 layers, whose first 1×1 convolutions stride, as in the paper."""
    return ResNet(
        shape,
        classes,
        block=_bottleneck_v1,
        outputs=_BOTTLENECK,
        depths=(3, 4, 6, 3),
        stochastic_depth=stochastic_depth,
    )


@_imagenet("resnet101_v1", title="ResNet-101 as published")
def resnet101_v1(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> ResNet:
    """Return the residual network of 101 layers, whose first 1×1 convolutions stride, as in the paper."""
    return ResNet(
        shape,
        classes,
        block=_bottleneck_v1,
        outputs=_BOTTLENECK,
        depths=(3, 4, 23, 3),
        stochastic_depth=stochastic_depth,
    )


@_imagenet("resnet152_v1", title="ResNet-152 as published")
def resnet152_v1(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> ResNet:
    """Return the residual network of 152 layers, whose first 1×1 convolutions stride, as in the paper."""
    return ResNet(
        shape,
        classes,
        block=_bottleneck_v1,
        outputs=_BOTTLENECK,
        depths=(3, 8, 36, 3),
        stochastic_depth=stochastic_depth,
    )


@_cifar("resnet20_cifar10", title="ResNet-20 for small pictures")
def resnet20_cifar10(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> CifarResNet:
    """Return the residual network of 20 layers for small pictures, with projections where shapes differ."""
    return CifarResNet(shape, classes, depth=20, shortcut=projection, stochastic_depth=stochastic_depth)


@_cifar("resnet32_cifar10", title="ResNet-32 for small pictures")
def resnet32_cifar10(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> CifarResNet:
    """Return the residual network of 32 layers for small pictures, with projections where shapes differ."""
    return CifarResNet(shape, classes, depth=32, shortcut=projection, stochastic_depth=stochastic_depth)


@_cifar("resnet44_cifar10", title="ResNet-44 for small pictures")
def resnet44_cifar10(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> CifarResNet:
    """Return the residual network of 44 layers for small pictures, with projections where shapes differ."""
    return CifarResNet(shape, classes, depth=44, shortcut=projection, stochastic_depth=stochastic_depth)


@_cifar("resnet56_cifar10", title="ResNet-56 for small pictures")
def resnet56_cifar10(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> CifarResNet:
    """Return the residual network of 56 layers for small pictures, with projections where shapes differ."""
    return CifarResNet(shape, classes, depth=56, shortcut=projection, stochastic_depth=stochastic_depth)


@_cifar("resnet110_cifar10", title="ResNet-110 for small pictures")
def resnet110_cifar10(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> CifarResNet:
    """Return the residual network of 110 layers for small pictures, with projections where shapes differ."""
    return CifarResNet(shape, classes, depth=110, shortcut=projection, stochastic_depth=stochastic_depth)


@_cifar("resnet20_cifar10_paper", title="ResNet-20 for small pictures as published")
def resnet20_cifar10_paper(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> CifarResNet:
    """Return the residual network of 20 layers for small pictures, with identity shortcuts throughout."""
    return CifarResNet(shape, classes, depth=20, shortcut=PaddedIdentity, stochastic_depth=stochastic_depth)


@_cifar("resnet32_cifar10_paper", title="ResNet-32 for small pictures as published")
def resnet32_cifar10_paper(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> CifarResNet:
    """Return the residual network of 32 layers for small pictures, with identity shortcuts throughout."""
    return CifarResNet(shape, classes, depth=32, shortcut=PaddedIdentity, stochastic_depth=stochastic_depth)


@_cifar("resnet44_cifar10_paper", title="ResNet-44 for small pictures as published")
def resnet44_cifar10_paper(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> CifarResNet:
    """Return the residual network of 44 layers for small pictures, with identity shortcuts throughout."""
    return CifarResNet(shape, classes, depth=44, shortcut=PaddedIdentity, stochastic_depth=stochastic_depth)


@_cifar("resnet56_cifar10_paper", title="ResNet-56 for small pictures as published")
def resnet56_cifar10_paper(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> CifarResNet:
    """Return the residual network of 56 layers for small pictures, with identity shortcuts throughout."""
    return CifarResNet(shape, classes, depth=56, shortcut=PaddedIdentity, stochastic_depth=stochastic_depth)


@_cifar("resnet110_cifar10_paper", title="ResNet-110 for small pictures as published")
def resnet110_cifar10_paper(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> CifarResNet:
    """Return the residual network of 110 layers for small pictures, with identity shortcuts throughout."""
    return CifarResNet(shape, classes, depth=110, shortcut=PaddedIdentity, stochastic_depth=stochastic_depth)
