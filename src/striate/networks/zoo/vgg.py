"""VGG: nothing but 3×3, and deeper.

K. Simonyan, A. Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015.

Two 3×3 convolutions see as much as one of 5×5, three as much as one of 7×7, with fewer weights and more ReLUs between
them (section 2.3). So all filters are 3×3, a pool halves the maps after each block, and depth is what varies.

==========  =======  =====  =====  =====  =====  ===========
block       output   11     13     16     19
            at 224   (A)    (B)    (D)    (E)
==========  =======  =====  =====  =====  =====  ===========
1           64×112   1      2      2      2      convolutions, a ReLU after each,
2           128×56   1      2      2      2      then the largest of 2×2
3           256×28   2      2      3      4
4           512×14   2      2      3      4
5           512×7    2      2      3      4
classifier           4096, 4096, K units; dropout 0.5 after the first two
parameters  (millions, for 1,000 classes: 132.9, 133.0, 138.4, 143.7)
==========  =======  =====  =====  =====  =====  ===========

The networks are torchvision's. They differ from the paper in an adaptive pool that makes the last maps 7×7, so that
pictures of any size fit; from 224×224 it changes nothing. The ``_bn`` networks have batch norm after each convolution
(Ioffe & Szegedy, ICML 2015), which the paper has not.

The paper could not train its deeper networks from small random weights and let a shallower one train first: see
`deepen`. These start from the initialisation of He et al., Delving Deep into Rectifiers, ICCV 2015, section 2.2, which
was made for deep rectified networks and needs no such help. The last layer starts from a deviation of 0.01, so that at
first no class stands out (Krizhevsky et al., NIPS 2012, section 5).
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.networks.zoo.registry import enter

_PAPER = "Simonyan, Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015"
_WIDTHS = (64, 128, 256, 512, 512)  # filters of each block
_UNITS = 4096  # of each hidden fully connected layer
_KEPT = 4  # convolutions that `deepen` takes over

VGG11 = (1, 1, 2, 2, 2)
VGG13 = (2, 2, 2, 2, 2)
VGG16 = (2, 2, 3, 3, 3)
VGG19 = (2, 2, 4, 4, 4)


@final
class VGG(nn.Module):
    """Five blocks of 3×3 convolutions and three fully connected layers; names and layout are torchvision's.

    Args:
        shape: (C, H, W); H and W at least 32.
        classes: K.
        depths: convolutions of each block.
        norm: whether a batch norm follows each convolution.

    Forward: images (N, C, H, W) → logits (N, K).

    Raises:
        NetworkError: too small a picture.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, depths: tuple[int, ...], norm: bool) -> None:
        super().__init__()
        inputs, height, width = shape
        if min(height, width) < 2 ** len(_WIDTHS):
            raise NetworkError(
                f"VGG halves pictures five times and needs at least 32×32, got {height}×{width}. "
                "Enlarge them with --size 224 (size=224)."
            )
        self.depths = depths
        self.features = nn.Sequential()
        for filters, depth in zip(_WIDTHS, depths, strict=True):
            for _ in range(depth):
                norms = [nn.BatchNorm2d(filters)] if norm else []
                self.features.extend([nn.Conv2d(inputs, filters, 3, padding=1), *norms, nn.ReLU(inplace=True)])
                inputs = filters
            self.features.append(nn.MaxPool2d(2, 2))
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        head = nn.Linear(_UNITS, classes)
        self.classifier = nn.Sequential(
            nn.Linear(inputs * 7 * 7, _UNITS), nn.ReLU(inplace=True), nn.Dropout(0.5),
            nn.Linear(_UNITS, _UNITS), nn.ReLU(inplace=True), nn.Dropout(0.5),
            head,
        )  # fmt: skip
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(head.weight, std=0.01)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Every layer that learns and every pool, input to output."""
        kinds = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.Linear)
        return {name: module for name, module in self.named_modules() if isinstance(module, kinds)}

    @property
    def head(self) -> nn.Module:
        """The layer whose outputs are the logits."""
        return self.classifier[-1]

    def forward(self, images: Tensor) -> Tensor:
        maps = self.avgpool(self.features(images))  # (N, 512, 7, 7)
        logits: Tensor = self.classifier(maps.flatten(1))
        return logits


def deepen(shallow: nn.Module, deep: nn.Module) -> VGG:
    """Start a deeper VGG from a shallower one that has been trained (section 3.1).

    The first four convolutions of ``shallow``, their norms, and the three fully connected layers are copied into
    ``deep``; the rest of ``deep`` keeps its random weights. All of it learns afterwards, at the same rate.

    The paper does not say where in the deeper network the four convolutions go; its first four have other shapes.
    Here each goes to its own place: the same block, and the same number in that block.

    Args:
        shallow: a trained VGG, the paper's is ``vgg11`` (net A). It is left as it is.
        deep: a VGG with more convolutions, for the same channels and classes. It is changed in place.

    Returns:
        ``deep``.

    Raises:
        NetworkError: either is no VGG, ``deep`` is not deeper, only one has norms, or channels or classes differ.
    """
    if not isinstance(shallow, VGG) or not isinstance(deep, VGG):
        kinds = f"{type(shallow).__name__} and {type(deep).__name__}"
        raise NetworkError(f"deepen takes two VGG networks, such as vgg11 and vgg16, got {kinds}.")
    _check_deeper(shallow, deep)
    sources, targets = _units(shallow), _units(deep)
    pairs = [(sources[place], targets[place]) for place in list(sources)[:_KEPT]]
    pairs.append((list(shallow.classifier), list(deep.classifier)))
    for source, target in pairs:
        for from_layer, to_layer in zip(source, target, strict=True):
            to_layer.load_state_dict(from_layer.state_dict())
    return deep


def _check_deeper(shallow: VGG, deep: VGG) -> None:
    """Refuse a pair of networks that `deepen` cannot take."""
    pairs = zip(shallow.depths, deep.depths, strict=True)
    if shallow.depths == deep.depths or any(before > after for before, after in pairs):
        raise NetworkError(
            f"deepen needs a second network with more convolutions than the first, got {sum(shallow.depths)} and then "
            f"{sum(deep.depths)}. Pass the trained, shallower one first."
        )
    before, after = _takes_and_gives(shallow), _takes_and_gives(deep)
    if before != after:
        raise NetworkError(
            f"deepen needs two networks with the same channels, classes and use of batch norm, got {before} and then "
            f"{after}. Build the second one like the first."
        )


def _takes_and_gives(network: VGG) -> str:
    state = network.state_dict()
    channels, classes = state["features.0.weight"].shape[1], len(state["classifier.6.bias"])
    has_norms = any(isinstance(layer, nn.BatchNorm2d) for layer in network.features)
    return f"{channels} channels, {classes} classes, {'batch norm' if has_norms else 'no norm'}"


def _units(network: VGG) -> dict[tuple[int, int], list[nn.Module]]:
    """Return each convolution with its norm by its place: its block and its number in that block."""
    units: dict[tuple[int, int], list[nn.Module]] = {}
    block = number = 0
    for layer in network.features:
        if isinstance(layer, nn.MaxPool2d):
            block, number = block + 1, 0
        elif isinstance(layer, nn.Conv2d):
            number += 1
            units[block, number] = [layer]
        elif isinstance(layer, nn.BatchNorm2d):
            units[block, number].append(layer)
    return units


@enter("vgg11", year=2015, title="VGG-11, net A", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def vgg11(*, shape: tuple[int, int, int], classes: int) -> VGG:
    """Return torchvision's VGG-11 with 8 convolutions."""
    return VGG(shape, classes, depths=VGG11, norm=False)


@enter("vgg11_bn", year=2015, title="VGG-11 with batch norm", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def vgg11_bn(*, shape: tuple[int, int, int], classes: int) -> VGG:
    """Return torchvision's VGG-11 with batch norm after each convolution."""
    return VGG(shape, classes, depths=VGG11, norm=True)


@enter("vgg13", year=2015, title="VGG-13, net B", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def vgg13(*, shape: tuple[int, int, int], classes: int) -> VGG:
    """Return torchvision's VGG-13 with 10 convolutions."""
    return VGG(shape, classes, depths=VGG13, norm=False)


@enter("vgg13_bn", year=2015, title="VGG-13 with batch norm", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def vgg13_bn(*, shape: tuple[int, int, int], classes: int) -> VGG:
    """Return torchvision's VGG-13 with batch norm after each convolution."""
    return VGG(shape, classes, depths=VGG13, norm=True)


@enter("vgg16", year=2015, title="VGG-16, net D", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def vgg16(*, shape: tuple[int, int, int], classes: int) -> VGG:
    """Return torchvision's VGG-16 with 13 convolutions."""
    return VGG(shape, classes, depths=VGG16, norm=False)


@enter("vgg16_bn", year=2015, title="VGG-16 with batch norm", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def vgg16_bn(*, shape: tuple[int, int, int], classes: int) -> VGG:
    """Return torchvision's VGG-16 with batch norm after each convolution."""
    return VGG(shape, classes, depths=VGG16, norm=True)


@enter("vgg19", year=2015, title="VGG-19, net E", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def vgg19(*, shape: tuple[int, int, int], classes: int) -> VGG:
    """Return torchvision's VGG-19 with 16 convolutions."""
    return VGG(shape, classes, depths=VGG19, norm=False)


@enter("vgg19_bn", year=2015, title="VGG-19 with batch norm", paper=_PAPER, shape=(3, 224, 224), classes=1000)
def vgg19_bn(*, shape: tuple[int, int, int], classes: int) -> VGG:
    """Return torchvision's VGG-19 with batch norm after each convolution."""
    return VGG(shape, classes, depths=VGG19, norm=True)
