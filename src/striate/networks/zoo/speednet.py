"""SpeedNet: small pictures, fast.

A network shaped by what a second of training buys, after K. Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU,
arXiv 2404.00498, 2024.

- Its first layer is not learned: it whitens small patches of the picture, so that every direction in which patches vary
  arrives with the same strength, once as it is and once negated (section 3.2).
- Its other convolutions begin as the identity, as far as their channels reach: at first, the picture is merely
  passed on (section 3.3).
- Its norms shift but do not scale, and its logits are scaled by a constant instead.

===========================  =====================================  ==================================
stage                        ``speednet``                           ``speednet_small``
===========================  =====================================  ==================================
whitening                    2×2 patches                            3×3 patches, stride 2
group 1                      2 convolutions 3×3, 64 filters, pool   1 convolution 3×3, 32 filters, stride 2
group 2                      2 convolutions 3×3, 256 filters, pool  1 convolution 3×3, 64 filters, stride 2
group 3                      2 convolutions 3×3, 256 filters, pool  1 convolution 3×3, 64 filters
head                         largest of each map, then linear       linear
logits                       divided by 9                           as they are
parameters (paper's input)   1,972,768 at 3×32×32                   71,202 at 1×28×28
===========================  =====================================  ==================================

``speednet`` has the paper's sizes. It differs from the paper's code in that its whitening has no biases, and in its
ReLU, which ``activation="gelu"`` replaces after all but the whitening. ``speednet_small`` is ours, for the processor:
strides spare the work before the pooling, and few channels keep the maps in its caches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.core.errors import NetworkError
from striate.networks.shapes import Window, slide, windows
from striate.networks.zoo.registry import enter

_PAPER = "Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU, arXiv 2404.00498, 2024"
_PIXELS_TO_WHITEN_BY = 100_000  # of pictures: hundreds of patches for each of their few directions
_TINY = 16  # pixels: smaller pictures have none to give away
_NORM_MOMENTUM = 0.3  # what a batch weighs in the statistics: a run of a few hundred steps has no time for 0.1
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": partial(nn.ReLU, inplace=True), "gelu": nn.GELU}
_LEAST_VARIANCE = 5e-4  # added to each variance, so that what is only noise is not blown up (section 3.2)


@final
class SpeedNet(nn.Module):
    """Frozen whitening, groups of identity-initialised convolutions, scaled logits.

    Args:
        shape: (C, H, W) of one picture.
        classes: K.
        widths: filters of each group.
        depths: convolutions of each group.
        strides: what each group divides height and width by, 1 or 2: its first convolution moves by so many pixels,
            or is followed by a pool.
        pool: whether groups take the largest of 2×2 instead of striding.
        patch: side of the whitened patches in pixels.
        directions: how many of the C · patch² directions are kept, those of the largest variance first.
        whitening_stride: in pixels.
        unpadded: how many of the first layers, from the whitening on, see no zeros around their maps: cheaper where
            pictures have a margin that says nothing.
        head: ``max`` gives the linear layer the largest value of each map, ``flatten`` all values.
        logit_scale: what the logits are multiplied by.
        activation: after each norm, ``relu`` or ``gelu``.

    Forward: images (N, C, H, W) → logits (N, K).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        *,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        strides: tuple[int, ...],
        pool: bool,
        patch: int,
        directions: int,
        whitening_stride: int,
        head: Literal["max", "flatten"],
        logit_scale: float,
        unpadded: int = 0,
        activation: Literal["relu", "gelu"] = "relu",
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise NetworkError(f"activation must be {' or '.join(_ACTIVATIONS)}, got {activation!r}.")
        if not len(widths) == len(depths) == len(strides):
            raise NetworkError(
                f"widths, depths and strides must have one number per group, got {widths}, {depths}, {strides}."
            )
        channels, height, width = shape
        if min(height, width) < patch:
            raise NetworkError(f"SpeedNet needs pictures of at least {patch}×{patch}, got {height}×{width}.")
        inputs = 2 * min(directions, channels * patch**2)
        # Patches of an even side have no middle: they stay within the picture, and 32 pixels have 31 of 2×2.
        padding = patch // 2 if patch % 2 and unpadded < 1 else 0
        self.whitening = nn.Conv2d(channels, inputs, patch, whitening_stride, padding=padding, bias=False)
        self.whitening.weight.requires_grad_(False)
        ceil = min(height, width) < _TINY
        self.groups = nn.Sequential()
        before = 1
        for filters, depth, stride in zip(widths, depths, strides, strict=True):
            bare = min(depth, max(0, unpadded - before))
            self.groups.append(_group(inputs, filters, depth, stride, bare, pool, ceil, _ACTIVATIONS[activation]))
            inputs, before = filters, before + depth
        sizes = _sizes_after([self.whitening, *self.groups.modules()], (height, width))
        if not all(sizes):
            raise NetworkError(
                f"SpeedNet needs larger pictures for {unpadded} unpadded layers, got {height}×{width}: leave more "
                "layers padded, or leave out groups."
            )
        self.pool = nn.AdaptiveMaxPool2d(1) if head == "max" else nn.Identity()
        self.head = nn.Linear(inputs if head == "max" else inputs * math.prod(sizes), classes, bias=False)
        self.logit_scale = logit_scale

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Whitening, groups and head, input to output."""
        groups = {f"groups.{name}": group for name, group in self.groups.named_children()}
        return {"whitening": self.whitening, **groups, "head": self.head}

    @torch.no_grad()
    def prepare(self, images: Tensor) -> None:
        """Set the whitening layer from pictures (section 3.2), unless that was done already: later layers rely on it.

        Each filter is an eigenvector of the patches' covariance, divided by the deviation along it.

        Args:
            images: (N, C, H, W) float, normalised; so many of them are taken as give 100,000 pixels.
        """
        once, negated = self.whitening.weight.chunk(2)
        if torch.equal(once, -negated):
            return
        patch, channels = self.whitening.kernel_size[0], self.whitening.in_channels
        images = images[: max(1, _PIXELS_TO_WHITEN_BY // (images.shape[2] * images.shape[3]))]
        patches = F.unfold(images, patch).transpose(1, 2).flatten(0, 1)  # (N · places, C · patch²)
        covariance = patches.T @ patches / len(patches)
        variances, directions = torch.linalg.eigh(covariance.double())
        kept = self.whitening.out_channels // 2  # eigh sorts by variance, least first
        filters = (directions / (variances + _LEAST_VARIANCE).sqrt()).T.float()[-kept:]
        filters = filters.view(-1, channels, patch, patch)
        self.whitening.weight.copy_(torch.cat([filters, -filters]))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.groups(F.relu_(self.whitening(images)))  # in place: nothing here is learned
        features = self.pool(maps).flatten(1)
        logits: Tensor = self.head(features) * self.logit_scale
        return logits


def _sizes_after(layers: Iterable[nn.Module], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return height and width of the maps after some layers; 0 where nothing is left of them."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            sizes = slide(windows(layer.kernel_size, layer.stride, layer.padding), sizes)  # type: ignore[arg-type]
        elif isinstance(layer, nn.MaxPool2d):
            window = Window(layer.kernel_size, layer.stride, ceil=layer.ceil_mode)  # type: ignore[arg-type]
            sizes = slide([window] * 2, sizes)
    return sizes


def _group(
    inputs: int,
    filters: int,
    depth: int,
    stride: int,
    unpadded: int,
    pool: bool,
    ceil: bool,
    activation: Callable[[], nn.Module],
) -> nn.Sequential:
    """Convolutions with norm and activation; the first one, or a pool after it, makes the maps smaller.

    The first ``unpadded`` of them see no zeros around their maps.
    """
    layers: list[nn.Module] = []
    for number in range(depth):
        shrink = stride if number == 0 else 1
        padding = int(number >= unpadded)
        convolution = nn.Conv2d(inputs, filters, 3, 1 if pool else shrink, padding=padding, bias=False)
        with torch.no_grad():
            nn.init.dirac_(convolution.weight[: min(inputs, filters)])
        norm = nn.BatchNorm2d(filters, momentum=_NORM_MOMENTUM)
        norm.weight.requires_grad_(False)
        pooling = [nn.MaxPool2d(shrink, ceil_mode=ceil)] if pool and shrink > 1 else []
        layers += [convolution, *pooling, norm, activation()]
        inputs = filters
    return nn.Sequential(*layers)


@enter("speednet", year=2024, title="small pictures, fast", paper=_PAPER, shape=(3, 32, 32), classes=10)
def speednet(
    *,
    shape: tuple[int, int, int],
    classes: int,
    widths: tuple[int, ...] = (64, 256, 256),
    depths: tuple[int, ...] = (2, 2, 2),
    strides: tuple[int, ...] = (2, 2, 2),
    activation: Literal["relu", "gelu"] = "relu",
) -> SpeedNet:
    """Return the network with the paper's sizes."""
    return SpeedNet(
        shape,
        classes,
        widths=tuple(widths),
        depths=tuple(depths),
        strides=tuple(strides),
        pool=True,
        patch=2,
        directions=4 * shape[0],
        whitening_stride=1,
        head="max",
        logit_scale=1 / 9,
        activation=activation,
    )


@enter(
    "speednet_small",
    year=2024,
    title="small pictures, fast on a processor",
    paper=_PAPER,
    shape=(1, 28, 28),
    classes=10,
)
def speednet_small(
    *,
    shape: tuple[int, int, int],
    classes: int,
    widths: tuple[int, ...] = (32, 64, 64),
    depths: tuple[int, ...] = (1, 1, 1),
    strides: tuple[int, ...] | None = None,
    directions: int = 9,
    head: Literal["max", "flatten"] = "flatten",
    unpadded: int = 0,
) -> SpeedNet:
    """Return the network that strides where the paper's pools; pictures under 16 pixels are halved only once.

    ``unpadded=2`` takes 0.6 of the multiply-adds at 28×28: maps of 6 and 3 pixels in the place of 7 and 4.
    """
    tiny = min(shape[1:]) < _TINY
    return SpeedNet(
        shape,
        classes,
        widths=tuple(widths),
        depths=tuple(depths),
        strides=tuple(strides or ((1, 2, 1) if tiny else (2, 2, 1))),
        pool=False,
        patch=3,
        directions=directions * shape[0],
        whitening_stride=1 if tiny else 2,
        head=head,
        logit_scale=1.0,
        unpadded=unpadded,
    )
