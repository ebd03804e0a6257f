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

``speednet`` has the paper's sizes. It differs from the paper's code in its optimiser and in what the recipe leaves
out; its biases learn at the rate of the recipe. ``speednet_small`` is ours, for the processor: strides spare the
work before the pooling, and few channels keep the maps in its caches.
"""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.networks.zoo.registry import enter

_PAPER = "Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU, arXiv 2404.00498, 2024"
_PIXELS_TO_WHITEN_BY = 400_000  # of pictures: hundreds of patches for each of their few directions
_NORM_MOMENTUM = 0.3  # what a batch weighs in the statistics: a run of a few hundred steps has no time for 0.1
_LEAST_VARIANCE = 5e-4  # added to each variance, so that what is only noise is not blown up (section 3.2)


@final
class SpeedNet(nn.Module):
    """Frozen whitening, groups of identity-initialised convolutions, scaled logits.

    Args:
        shape: (C, H, W) of one picture.
        classes: K.
        widths: filters of each group.
        depth: convolutions in each group.
        patch: side of the whitened patches in pixels.
        whitening_stride: in pixels.
        downsample: ``pool`` takes the largest of 2×2 after a group's first convolution; ``stride`` moves that
            convolution by 2, but not in the last group.
        head: ``max`` gives the linear layer the largest value of each map, ``flatten`` all values.
        logit_scale: what the logits are multiplied by.

    Forward: images (N, C, H, W) → logits (N, K).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        *,
        widths: tuple[int, ...] = (64, 256, 256),
        depth: int = 2,
        patch: int = 2,
        whitening_stride: int = 1,
        downsample: Literal["pool", "stride"] = "pool",
        head: Literal["max", "flatten"] = "max",
        logit_scale: float = 1 / 9,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        directions = channels * patch**2
        self.whitening = nn.Conv2d(channels, 2 * directions, patch, whitening_stride, padding=patch // 2, bias=False)
        self.whitening.weight.requires_grad_(False)
        rows, columns = ((side + 2 * (patch // 2) - patch) // whitening_stride + 1 for side in (height, width))
        self.groups = nn.Sequential()
        inputs = 2 * directions
        for number, filters in enumerate(widths):
            shrinks = downsample == "pool" or number < len(widths) - 1
            self.groups.append(_group(inputs, filters, depth, downsample if shrinks else None))
            inputs = filters
            if shrinks:
                rows, columns = -(-rows // 2), -(-columns // 2)
        self.pool = nn.AdaptiveMaxPool2d(1) if head == "max" else nn.Identity()
        self.head = nn.Linear(inputs * (1 if head == "max" else rows * columns), classes, bias=False)
        self.logit_scale = logit_scale

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Whitening, groups and head, input to output."""
        groups = {f"groups.{name}": group for name, group in self.groups.named_children()}
        return {"whitening": self.whitening, **groups, "head": self.head}

    @torch.no_grad()
    def prepare(self, images: Tensor) -> None:
        """Set the whitening layer from pictures (section 3.2).

        Each filter is an eigenvector of the patches' covariance, divided by the deviation along it.

        Args:
            images: (N, C, H, W) float, normalised; so many of them are taken as give 400,000 pixels.
        """
        patch, channels = self.whitening.kernel_size[0], self.whitening.in_channels
        images = images[: max(1, _PIXELS_TO_WHITEN_BY // (images.shape[2] * images.shape[3]))]
        patches = F.unfold(images, patch).transpose(1, 2).flatten(0, 1)  # (N · places, C · patch²)
        covariance = patches.T @ patches / len(patches)
        variances, directions = torch.linalg.eigh(covariance.double())
        filters = (directions / (variances + _LEAST_VARIANCE).sqrt()).T.float()  # one per row
        filters = filters.view(-1, channels, patch, patch)
        self.whitening.weight.copy_(torch.cat([filters, -filters]))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.groups(F.relu(self.whitening(images)))
        features = self.pool(maps).flatten(1)
        logits: Tensor = self.head(features) * self.logit_scale
        return logits


def _group(inputs: int, filters: int, depth: int, downsample: Literal["pool", "stride"] | None) -> nn.Sequential:
    """Convolutions with norm and ReLU; the first one makes the maps smaller."""
    layers: list[nn.Module] = []
    for number in range(depth):
        stride = 2 if downsample == "stride" and number == 0 else 1
        convolution = nn.Conv2d(inputs, filters, 3, stride, padding=1, bias=False)
        with torch.no_grad():
            nn.init.dirac_(convolution.weight[: min(inputs, filters)])
        norm = nn.BatchNorm2d(filters, momentum=_NORM_MOMENTUM)
        norm.weight.requires_grad_(False)
        pool = [nn.MaxPool2d(2, ceil_mode=True)] if downsample == "pool" and number == 0 else []
        layers += [convolution, *pool, norm, nn.ReLU(inplace=True)]
        inputs = filters
    return nn.Sequential(*layers)


@enter("speednet", year=2024, title="small pictures, fast", paper=_PAPER, shape=(3, 32, 32), classes=10)
def speednet(
    *,
    shape: tuple[int, int, int],
    classes: int,
    widths: tuple[int, ...] = (64, 256, 256),
    depth: int = 2,
) -> SpeedNet:
    """Return the network with the paper's sizes."""
    return SpeedNet(shape, classes, widths=tuple(widths), depth=depth)


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
    depth: int = 1,
) -> SpeedNet:
    """Return the network that spends strides where the paper's spends pooling."""
    return SpeedNet(
        shape,
        classes,
        widths=tuple(widths),
        depth=depth,
        patch=3,
        whitening_stride=2,
        downsample="stride",
        head="flatten",
        logit_scale=1.0,
    )
