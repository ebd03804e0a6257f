"""DenseNet: every layer sees all layers before it.

G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger: Densely Connected Convolutional Networks, CVPR 2017, section 3.

Within a block a layer's input is everything computed so far, side by side, and its output a few new maps (the growth
rate k). Features are kept and used again instead of being computed again, and every layer is near the loss; so few
parameters do. Between blocks, a transition merges the maps and halves the picture.

A layer is norm, ReLU, 1×1 convolution to 4k maps, norm, ReLU, 3×3 convolution to k maps (the paper's "B"); transitions
halve the number of maps ("C"). For ImageNet (table 1, there called DenseNet-121 and so on):

==================================  ========  ========  ========  ========  ========
stage                               output    121       161       169       201
==================================  ========  ========  ========  ========  ========
growth rate k                                 32        48        32        32
``conv0``, norm, ReLU               112×112   7×7, 2k filters, stride 2
``pool0``                           56×56     largest of 3×3, stride 2
``denseblock1``                     56×56     6 layers  6         6         6
``transition1``                     28×28     norm, ReLU, 1×1 convolution, mean of 2×2
``denseblock2``, ``transition2``    14×14     12        12        12        12
``denseblock3``, ``transition3``    7×7       24        36        32        48
``denseblock4``                     7×7       16        24        32        32
``norm5``, ReLU, ``avgpool``        1×1       mean of each map
``classifier``                      K         linear
parameters                                    8.0 M     28.7 M    14.1 M    20.0 M
multiply-adds                                 2.8 G     7.7 G     3.4 G     4.3 G
==================================  ========  ========  ========  ========  ========

The 161 is not in the paper's table 1 but among the weights that its authors published.

For CIFAR: a 3×3 convolution, three blocks of equal depth at 32×32, 16×16 and 8×8, then as above.

================================  =========================  =======  =====  ============  ==========  =============
network                           layers of a block, k = 12  layer    first  transitions   parameters  multiply-adds
================================  =========================  =======  =====  ============  ==========  =============
``densenet40_k12_cifar10_paper``  12                         3×3      16     keep all      1,019,722   265 M
``densenet40_k12_cifar10``        12                         3×3      24     keep half     599,050     206 M
``densenet100_k12_bc_cifar10``    16                         1×1, 3×3 24     keep half     769,162     288 M
================================  =========================  =======  =====  ============  ==========  =============

``densenet40_k12_cifar10_paper`` is the DenseNet (k = 12, L = 40) of the paper's table 2; ``densenet40_k12_cifar10`` is
what goes by that name among the weights in circulation: it compresses without having bottlenecks, which the paper does
not, and begins with 2k filters. In spite of the names, any number of classes.

The paper's dropout of 0.2, for training on CIFAR without augmentation only, is left out. Convolutions begin as He et
al. 2015 say.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.networks.zoo.registry import enter

_PAPER = "Huang et al., Densely Connected Convolutional Networks, CVPR 2017"
_BOTTLENECK = 4  # maps that a 1×1 convolution leaves to the 3×3, in growth rates


@final
class DenseBlock(nn.Module):
    """Layers of which each one's output is put beside its input, to be the next one's input (equation 2).

    Args:
        inputs: number of channels.
        growth: channels that each layer adds, k.
        depth: number of layers.
        bottleneck: whether a layer reduces its input by a 1×1 convolution first.

    Forward: (N, inputs, H, W) → (N, inputs + depth · growth, H, W).
    """

    def __init__(self, inputs: int, growth: int, depth: int, *, bottleneck: bool) -> None:
        super().__init__()
        for number in range(depth):
            layer = _dense_layer(inputs + number * growth, growth, bottleneck)
            self.add_module(f"denselayer{number + 1}", layer)

    def forward(self, maps: Tensor) -> Tensor:
        for layer in self.children():
            # Onto what is concatenated already: one copy and one addition of gradients per layer, whatever its number.
            maps = torch.cat((maps, layer(maps)), 1)
        return maps


def _dense_layer(inputs: int, growth: int, bottleneck: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["norm1"] = nn.BatchNorm2d(inputs)
    layers["relu1"] = nn.ReLU(inplace=True)
    if not bottleneck:
        layers["conv1"] = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)
        return nn.Sequential(layers)
    layers["conv1"] = nn.Conv2d(inputs, _BOTTLENECK * growth, 1, bias=False)
    layers["norm2"] = nn.BatchNorm2d(_BOTTLENECK * growth)
    layers["relu2"] = nn.ReLU(inplace=True)
    layers["conv2"] = nn.Conv2d(_BOTTLENECK * growth, growth, 3, padding=1, bias=False)
    return nn.Sequential(layers)


def _transition(inputs: int, outputs: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["norm"] = nn.BatchNorm2d(inputs)
    layers["relu"] = nn.ReLU(inplace=True)
    layers["conv"] = nn.Conv2d(inputs, outputs, 1, bias=False)
    layers["pool"] = nn.AvgPool2d(2)
    return nn.Sequential(layers)


def _stem(channels: int, filters: int, small: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if small:
        layers["conv0"] = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        return nn.Sequential(layers)
    layers["conv0"] = nn.Conv2d(channels, filters, 7, 2, padding=3, bias=False)
    layers["norm0"] = nn.BatchNorm2d(filters)
    layers["relu0"] = nn.ReLU(inplace=True)
    layers["pool0"] = nn.MaxPool2d(3, 2, padding=1)
    return nn.Sequential(layers)


@final
class DenseNet(nn.Module):
    """Dense blocks with transitions between them.

    Args:
        shape: (C, H, W); H and W at least 29, or 4 where ``small``.
        classes: K.
        filters: of the first convolution.
        growth: channels that each layer adds, k.
        depths: layers of each block.
        small: whether the first convolution is that for CIFAR, which leaves height and width as they are.
        bottleneck: whether a layer reduces its input by a 1×1 convolution first.
        compression: part of the channels that a transition keeps, θ.

    Forward: images (N, C, H, W) → logits (N, K).

    Raises:
        NetworkError: the pictures are too small to be halved by every transition.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        *,
        filters: int,
        growth: int,
        depths: tuple[int, ...],
        small: bool = False,
        bottleneck: bool = True,
        compression: float = 0.5,
    ) -> None:
        super().__init__()
        _check_size(shape, len(depths) - 1, 1 if small else 4)
        self.features = _stem(shape[0], filters, small)
        for number, depth in enumerate(depths, start=1):
            block = DenseBlock(filters, growth, depth, bottleneck=bottleneck)
            self.features.add_module(f"denseblock{number}", block)
            filters += depth * growth
            if number < len(depths):
                kept = int(filters * compression)
                self.features.add_module(f"transition{number}", _transition(filters, kept))
                filters = kept
        self.features.add_module(f"norm{len(depths) + 1}", nn.BatchNorm2d(filters))
        self.features.add_module(f"relu{len(depths) + 1}", nn.ReLU(inplace=True))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(filters, classes)
        _initialise(self)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The stages of the table and their norms, input to output."""
        features = {f"features.{name}": module for name, module in self.features.named_children() if name != "relu0"}
        return {**features, "avgpool": self.avgpool, "classifier": self.classifier}

    @property
    def head(self) -> nn.Module:
        """The layer whose outputs are the logits."""
        return self.classifier

    def forward(self, images: Tensor) -> Tensor:
        maps = self.features(images)
        logits: Tensor = self.classifier(self.avgpool(maps).flatten(1))
        return logits


def _check_size(shape: tuple[int, int, int], transitions: int, stride: int) -> None:
    """Refuse pictures of which the last transition would find less than 2×2 pixels."""
    _, height, width = shape
    least = (2**transitions - 1) * stride + 1
    if min(height, width) < least:
        raise NetworkError(
            f"This DenseNet needs pictures of at least {least}×{least}, got {height}×{width}. "
            f"Enlarge them with --size {least} (size={least})."
        )


def _initialise(network: nn.Module) -> None:
    """He et al., Delving Deep into Rectifiers, ICCV 2015, equation 10; the linear layer's bias begins at zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


_imagenet = partial(enter, year=2017, paper=_PAPER, shape=(3, 224, 224), classes=1000)
_cifar = partial(enter, year=2017, paper=_PAPER, shape=(3, 32, 32), classes=10)


@_imagenet("densenet121", title="DenseNet-121")
def densenet121(*, shape: tuple[int, int, int], classes: int) -> DenseNet:
    """Return the densely connected network of 121 layers."""
    return DenseNet(shape, classes, filters=64, growth=32, depths=(6, 12, 24, 16))


@_imagenet("densenet161", title="DenseNet-161")
def densenet161(*, shape: tuple[int, int, int], classes: int) -> DenseNet:
    """Return the densely connected network of 161 layers, the widest of the four."""
    return DenseNet(shape, classes, filters=96, growth=48, depths=(6, 12, 36, 24))


@_imagenet("densenet169", title="DenseNet-169")
def densenet169(*, shape: tuple[int, int, int], classes: int) -> DenseNet:
    """Return the densely connected network of 169 layers."""
    return DenseNet(shape, classes, filters=64, growth=32, depths=(6, 12, 32, 32))


@_imagenet("densenet201", title="DenseNet-201")
def densenet201(*, shape: tuple[int, int, int], classes: int) -> DenseNet:
    """Return the densely connected network of 201 layers."""
    return DenseNet(shape, classes, filters=64, growth=32, depths=(6, 12, 48, 32))


@_cifar("densenet40_k12_cifar10", title="DenseNet-40 for small pictures, compressed")
def densenet40_k12_cifar10(*, shape: tuple[int, int, int], classes: int) -> DenseNet:
    """Return 40 layers without bottlenecks, whose transitions keep half of the channels."""
    return DenseNet(shape, classes, filters=24, growth=12, depths=(12, 12, 12), small=True, bottleneck=False)


@_cifar("densenet40_k12_cifar10_paper", title="DenseNet-40 for small pictures as published")
def densenet40_k12_cifar10_paper(*, shape: tuple[int, int, int], classes: int) -> DenseNet:
    """Return 40 layers without bottlenecks, whose transitions keep all channels."""
    return DenseNet(
        shape, classes, filters=16, growth=12, depths=(12, 12, 12), small=True, bottleneck=False, compression=1.0
    )


@_cifar("densenet100_k12_bc_cifar10", title="DenseNet-BC-100 for small pictures")
def densenet100_k12_bc_cifar10(*, shape: tuple[int, int, int], classes: int) -> DenseNet:
    """Return 100 layers with bottlenecks, whose transitions keep half of the channels."""
    return DenseNet(shape, classes, filters=24, growth=12, depths=(16, 16, 16), small=True)
