"""Pre-activation ResNet: norm and ReLU before each convolution, nothing on the way round.

K. He, X. Zhang, S. Ren, J. Sun: Identity Mappings in Deep Residual Networks, ECCV 2016, sections 4 and 5.

If neither the shortcut nor what follows the addition changes the sum, each block's input is the first one's plus all
residuals between, and the gradient comes back the same way. So norm and ReLU move in front of the convolutions they
served from behind, and one last pair of them closes the network. A thousand layers then train.

For ImageNet; each number in a row of blocks is a convolution of that size:

=============  ========  =========  =========  ============  ============  ============  ============
stage          output    18         34         50            101           152           200
=============  ========  =========  =========  ============  ============  ============  ============
``conv1``      112×112   7×7, 64 filters, stride 2, norm, ReLU
``maxpool``    56×56     3×3, stride 2
``layer1``     56×56     (3, 3)×2   (3, 3)×3   (1, 3, 1)×3   (1, 3, 1)×3   (1, 3, 1)×3   (1, 3, 1)×3
``layer2``     28×28     (3, 3)×2   (3, 3)×4   (1, 3, 1)×4   (1, 3, 1)×4   (1, 3, 1)×8   (1, 3, 1)×24
``layer3``     14×14     (3, 3)×2   (3, 3)×6   (1, 3, 1)×6   (1, 3, 1)×23  (1, 3, 1)×36  (1, 3, 1)×36
``layer4``     7×7       (3, 3)×2   (3, 3)×3   (1, 3, 1)×3   (1, 3, 1)×3   (1, 3, 1)×3   (1, 3, 1)×3
``relu2``      7×7       norm, ReLU
``avgpool``    1×1       mean of each map
``fc``         K         linear
filters                  64, 128, 256, 512     256, 512, 1024, 2048 out of a block, a quarter inside
parameters               11.7 M     21.8 M     25.5 M        44.5 M        60.2 M        64.7 M
multiply-adds            1.8 G      3.7 G      3.9 G         7.6 G         11.3 G        14.8 G
=============  ========  =========  =========  ============  ============  ============  ============

For CIFAR: a 3×3 convolution with 16 filters, three groups at 32×32, 16×16 and 8×8, then as above.

=========================  ===============  ==============  ==========  =============
network                    blocks           filters         parameters  multiply-adds
=========================  ===============  ==============  ==========  =============
``preresnet110_cifar10``   (3, 3)×18 each   16, 32, 64      1,730,522   253 M
``preresnet164bn_cifar10`` (1, 3, 1)×18     64, 128, 256    1,703,258   255 M
``preresnet1001_cifar10``  (1, 3, 1)×111    64, 128, 256    10,327,706  1.5 G
=========================  ===============  ==============  ==========  =============

Where a shortcut must change the shape it is a 1×1 convolution of the activated input, which is the one place where
norm and ReLU are shared by both ways (as in the authors' code). The bottlenecks for ImageNet stride in their first 1×1
convolution, those for CIFAR in their 3×3, as the weights in circulation do; the authors' code strides in the 1×1 for
CIFAR too. It differs from the paper's section 4.1, too, that the activation after ``conv1`` does not take the place of
the first block's own: for ImageNet both are there, for CIFAR the first block of the 110 adds ``conv1``'s bare output.
In spite of the names, any number of classes. The 10.2 M parameters that the paper states for the 1001 are those of
its convolutions.

Convolutions begin as He et al. 2015 say. As in the paper before, training on CIFAR begins with a learning rate of 0.01
for the first 400 steps, then goes on with 0.1: that warm-up belongs to the recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

from torch import Tensor, nn

from striate.networks.layers.stochastic_depth import drop_blocks
from striate.networks.zoo.blocks import initialise_for_backward
from striate.networks.zoo.registry import enter

_PAPER = "He et al., Identity Mappings in Deep Residual Networks, ECCV 2016"
_SIMPLE = (64, 128, 256, 512)  # channels that the groups give
_BOTTLENECK = (256, 512, 1024, 2048)

Block = Callable[[int, int, int], nn.Module]  # of inputs, outputs, stride


@final
class SimpleBlock(nn.Module):
    """Twice norm, ReLU and a 3×3 convolution, and the shortcut round them (figure 4e).

    Args:
        inputs, outputs: numbers of channels.
        stride: of the first convolution, in pixels.

    Forward: (N, inputs, H, W) → (N, outputs, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.projection = _projection(inputs, outputs, stride)
        self.stochastic_depth: nn.Module | None = None  # see drop_blocks

    def forward(self, maps: Tensor) -> Tensor:
        active = self.relu1(self.bn1(maps))
        residual: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        if self.stochastic_depth is not None:
            residual = self.stochastic_depth(residual)
        return residual + (maps if self.projection is None else self.projection(active))


@final
class Bottleneck(nn.Module):
    """A 1×1 convolution to a quarter of the channels, a 3×3, a 1×1 back, norm and ReLU before each, and the shortcut.

    Args:
        inputs, outputs: numbers of channels.
        stride: in pixels.
        stride_first: whether the first 1×1 convolution strides and not the 3×3.

    Forward: (N, inputs, H, W) → (N, outputs, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, stride_first: bool) -> None:
        super().__init__()
        width = outputs // 4
        first, second = (stride, 1) if stride_first else (1, stride)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, width, 1, first, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu3 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.projection = _projection(inputs, outputs, stride)
        self.stochastic_depth: nn.Module | None = None  # see drop_blocks

    def forward(self, maps: Tensor) -> Tensor:
        active = self.relu1(self.bn1(maps))
        residual = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        residual = self.conv3(self.relu3(self.bn3(residual)))
        if self.stochastic_depth is not None:
            residual = self.stochastic_depth(residual)
        result: Tensor = residual + (maps if self.projection is None else self.projection(active))
        return result


def _projection(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


def _group(block: Block, inputs: int, outputs: int, depth: int, stride: int) -> nn.Sequential:
    """Return ``depth`` blocks, of which the first one changes the shape."""
    return nn.Sequential(block(inputs, outputs, stride), *(block(outputs, outputs, 1) for _ in range(depth - 1)))


@final
class PreResNet(nn.Module):
    """A pre-activation ResNet for ImageNet.

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
        self.relu1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = _group(block, 64, outputs[0], depths[0], 1)
        self.layer2 = _group(block, outputs[0], outputs[1], depths[1], 2)
        self.layer3 = _group(block, outputs[1], outputs[2], depths[2], 2)
        self.layer4 = _group(block, outputs[2], outputs[3], depths[3], 2)
        drop_blocks([*self.layer1, *self.layer2, *self.layer3, *self.layer4], stochastic_depth)
        self.bn2 = nn.BatchNorm2d(outputs[3])
        self.relu2 = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(outputs[3], classes)
        initialise_for_backward(self)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The stages of the table and their norms, input to output."""
        return {name: module for name, module in self.named_children() if name != "relu1"}

    @property
    def head(self) -> nn.Module:
        """The layer whose outputs are the logits."""
        return self.fc

    def forward(self, images: Tensor) -> Tensor:
        maps = self.maxpool(self.relu1(self.bn1(self.conv1(images))))  # (N, 64, H / 4, W / 4)
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))  # (N, 512 or 2048, H / 32, W / 32)
        maps = self.relu2(self.bn2(maps))
        logits: Tensor = self.fc(self.avgpool(maps).flatten(1))
        return logits


@final
class CifarPreResNet(nn.Module):
    """A pre-activation ResNet for CIFAR.

    Args:
        shape: (C, H, W); any H and W, 32 in the paper. What reaches the last group is a quarter of them.
        classes: K.
        block: makes one block.
        outputs: channels that each of the three groups gives.
        blocks: of each group.
        stochastic_depth: in training, probability that the last block is left out; those before it less, in proportion.

    Forward: images (N, C, H, W) → logits (N, K).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        *,
        block: Block,
        outputs: tuple[int, int, int],
        blocks: int,
        stochastic_depth: float,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], 16, 3, padding=1, bias=False)
        self.layer1 = _group(block, 16, outputs[0], blocks, 1)
        self.layer2 = _group(block, outputs[0], outputs[1], blocks, 2)
        self.layer3 = _group(block, outputs[1], outputs[2], blocks, 2)
        drop_blocks([*self.layer1, *self.layer2, *self.layer3], stochastic_depth)
        self.bn = nn.BatchNorm2d(outputs[2])
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(outputs[2], classes)
        initialise_for_backward(self)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """All layers and groups, input to output."""
        return dict(self.named_children())

    @property
    def head(self) -> nn.Module:
        """The layer whose outputs are the logits."""
        return self.fc

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer3(self.layer2(self.layer1(self.conv1(images))))  # (N, 64 or 256, H / 4, W / 4)
        maps = self.relu(self.bn(maps))
        logits: Tensor = self.fc(self.avgpool(maps).flatten(1))
        return logits


_imagenet = partial(enter, year=2016, paper=_PAPER, shape=(3, 224, 224), classes=1000)
_cifar = partial(enter, year=2016, paper=_PAPER, shape=(3, 32, 32), classes=10)
_stride_first = partial(Bottleneck, stride_first=True)
_stride_second = partial(Bottleneck, stride_first=False)


@_imagenet("preresnet18", title="pre-activation ResNet-18")
def preresnet18(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> PreResNet:
    """Return the pre-activation network of 18 layers."""
    return PreResNet(
        shape, classes, block=SimpleBlock, outputs=_SIMPLE, depths=(2, 2, 2, 2), stochastic_depth=stochastic_depth
    )


@_imagenet("preresnet34", title="pre-activation ResNet-34")
def preresnet34(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> PreResNet:
    """Return the pre-activation network of 34 layers."""
    return PreResNet(
        shape, classes, block=SimpleBlock, outputs=_SIMPLE, depths=(3, 4, 6, 3), stochastic_depth=stochastic_depth
    )


@_imagenet("preresnet50", title="pre-activation ResNet-50")
def preresnet50(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> PreResNet:
    """Return the pre-activation network of 50 layers."""
    return PreResNet(
        shape, classes, block=_stride_first, outputs=_BOTTLENECK, depths=(3, 4, 6, 3), stochastic_depth=stochastic_depth
    )


@_imagenet("preresnet101", title="pre-activation ResNet-101")
def preresnet101(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> PreResNet:
    """Return the pre-activation network of 101 layers."""
    return PreResNet(
        shape,
        classes,
        block=_stride_first,
        outputs=_BOTTLENECK,
        depths=(3, 4, 23, 3),
        stochastic_depth=stochastic_depth,
    )


@_imagenet("preresnet152", title="pre-activation ResNet-152")
def preresnet152(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> PreResNet:
    """Return the pre-activation network of 152 layers."""
    return PreResNet(
        shape,
        classes,
        block=_stride_first,
        outputs=_BOTTLENECK,
        depths=(3, 8, 36, 3),
        stochastic_depth=stochastic_depth,
    )


@_imagenet("preresnet200", title="pre-activation ResNet-200")
def preresnet200(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> PreResNet:
    """Return the pre-activation network of 200 layers."""
    return PreResNet(
        shape,
        classes,
        block=_stride_first,
        outputs=_BOTTLENECK,
        depths=(3, 24, 36, 3),
        stochastic_depth=stochastic_depth,
    )


@_cifar("preresnet110_cifar10", title="pre-activation ResNet-110 for small pictures")
def preresnet110_cifar10(*, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0) -> CifarPreResNet:
    """Return the pre-activation network of 110 layers for small pictures."""
    return CifarPreResNet(
        shape, classes, block=SimpleBlock, outputs=(16, 32, 64), blocks=18, stochastic_depth=stochastic_depth
    )


@_cifar("preresnet164bn_cifar10", title="pre-activation ResNet-164 for small pictures")
def preresnet164bn_cifar10(
    *, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0
) -> CifarPreResNet:
    """Return the pre-activation network of 164 layers for small pictures, in bottlenecks."""
    return CifarPreResNet(
        shape, classes, block=_stride_second, outputs=(64, 128, 256), blocks=18, stochastic_depth=stochastic_depth
    )


@_cifar("preresnet1001_cifar10", title="pre-activation ResNet-1001 for small pictures")
def preresnet1001_cifar10(
    *, shape: tuple[int, int, int], classes: int, stochastic_depth: float = 0.0
) -> CifarPreResNet:
    """Return the pre-activation network of 1001 layers for small pictures, in bottlenecks."""
    return CifarPreResNet(
        shape, classes, block=_stride_second, outputs=(64, 128, 256), blocks=111, stochastic_depth=stochastic_depth
    )
