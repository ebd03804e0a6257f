"""The settings of airbench94_muon, as documented, in a program of our own that runs on any processor.

K. Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU, arXiv 2404.00498, 2024, and the numbers that its public
program of the year after states: Muon on the filters, eight epochs, batches of 2,000.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPOCHS, BATCH = 8, 2000
WIDTHS = (64, 256, 256)
WHITENED_PICTURES, LEAST_VARIANCE = 5000, 5e-4
WHITENING_BIAS_EPOCHS = 3
BIAS_RATE, HEAD_RATE, MOMENTUM = 0.053, 0.67, 0.85
DECAY = 2e-6  # times the batch size
MUON_RATE, MUON_MOMENTUM = 0.24, 0.6
ITERATIONS, COEFFICIENTS = 3, (3.4445, -4.7750, 2.0315)
SMOOTHING = 0.2
SHIFT = 2  # pixels


def network(classes: int) -> nn.Sequential:
    """Return the network of section 3.1, for 32×32 pictures: logits are 1/256 of what the linear layer says."""
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 2), nn.GELU()]
    layers[0].weight.requires_grad_(False)
    inputs = 24
    for filters in WIDTHS:
        layers += [_convolution(inputs, filters), nn.MaxPool2d(2), _norm(filters), nn.GELU()]
        layers += [_convolution(filters, filters), _norm(filters), nn.GELU()]
        inputs = filters
    head = nn.Linear(inputs, classes, bias=False)
    with torch.no_grad():
        head.weight /= head.weight.std()
    return nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), head, _Divide(inputs))


def _convolution(inputs: int, filters: int) -> nn.Conv2d:
    """Return a convolution whose first filters are the identity (section 3.3)."""
    layer = nn.Conv2d(inputs, filters, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight.data[:inputs])
    return layer


def _norm(filters: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(filters, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad_(False)
    return layer


@final
class _Divide(nn.Module):
    def __init__(self, divisor: int) -> None:
        super().__init__()
        self._divisor = divisor

    def forward(self, logits: Tensor) -> Tensor:
        return logits / self._divisor


@torch.no_grad()
def whiten(first: nn.Conv2d, pictures: Tensor) -> None:
    """Set the filters to the eigenvectors of the patches' covariance over their deviations, and their negatives."""
    patches = F.unfold(pictures, first.kernel_size).transpose(1, 2).flatten(0, 1)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (directions / (variances + LEAST_VARIANCE).sqrt()).T.reshape(-1, *first.weight.shape[1:])
    first.weight.copy_(torch.cat([filters, -filters]))


@final
class Muon:
    """Momentum whose matrix is made nearly orthogonal before each step (K. Jordan, Muon, 2024).

    The weights of each layer are first scaled to a mean square of filters of 1.
    """

    def __init__(self, weights: list[nn.Parameter]) -> None:
        self._weights = [(weight, torch.zeros_like(weight)) for weight in weights]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update the weights and clear their gradients."""
        for weight, momentum in self._weights:
            assert weight.grad is not None
            momentum.mul_(MUON_MOMENTUM).add_(weight.grad)
            ahead = weight.grad + MUON_MOMENTUM * momentum  # Nesterov's
            weight *= len(weight) ** 0.5 / weight.norm()
            weight -= rate * orthogonal(ahead.flatten(1)).view_as(weight)
            weight.grad = None


def orthogonal(matrix: Tensor) -> Tensor:
    """Return nearly U·Vᵀ of the singular value decomposition, by a quintic Newton–Schulz iteration."""
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    found = wide / (wide.norm() + 1e-7)
    first, third, fifth = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = found @ found.T
        found = first * found + (third * square + fifth * square @ square) @ found
    return found if wide is matrix else found.T


def shifted(pictures: Tensor, pixels: int) -> Tensor:
    """Return each picture (N, C, H, W) moved by up to so many pixels, mirrored at the border."""
    count, _, height, width = pictures.shape
    padded = F.pad(pictures, (pixels,) * 4, mode="reflect")
    down, right = torch.randint(2 * pixels + 1, (2, count, 1))
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    moved = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)  # which is channels last in memory


def train(
    model: nn.Sequential, pictures: Tensor, labels: Tensor, precision: torch.autocast, batch: int
) -> Iterator[int]:
    """Train, and yield the number of each epoch that is done.

    Args:
        model: what `network` returned, channels last.
        pictures: (N, 3, 32, 32), normalised.
        labels: (N,).
        precision: what the forward passes run in.
        batch: pictures in a step.
    """
    first, head = model[0], model[-2]
    assert isinstance(first, nn.Conv2d)
    whiten(first, pictures[:WHITENED_PICTURES])
    norms = [layer.bias for layer in model if isinstance(layer, nn.BatchNorm2d)]
    decay = DECAY * batch
    groups = [
        {"params": parameters, "lr": rate, "weight_decay": decay / rate}
        for parameters, rate in (([first.bias], BIAS_RATE), (norms, BIAS_RATE), ([head.weight], HEAD_RATE))
    ]
    optimizer = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True, fused=True)
    muon = Muon([layer.weight for layer in model[1:] if isinstance(layer, nn.Conv2d)])
    mirrored = torch.rand(len(pictures)) < 0.5
    steps = len(pictures) // batch
    count = itertools.count()
    for epoch in range(EPOCHS):
        model.train()
        mirror_now = mirrored ^ (epoch % 2 == 1)
        for index in torch.randperm(len(pictures))[: steps * batch].split(batch):
            step = next(count)
            chosen = shifted(pictures[index], SHIFT)
            chosen = torch.where(mirror_now[index].view(-1, 1, 1, 1), chosen.flip(3), chosen)
            first.bias.requires_grad_(step < WHITENING_BIAS_EPOCHS * steps)
            with precision:
                logits = model(chosen)
            F.cross_entropy(logits.float(), labels[index], label_smoothing=SMOOTHING, reduction="sum").backward()
            left, left_of_bias = 1 - step / (EPOCHS * steps), 1 - step / (WHITENING_BIAS_EPOCHS * steps)
            for group, rate, part in zip(
                optimizer.param_groups, (BIAS_RATE, BIAS_RATE, HEAD_RATE), (left_of_bias, left, left), strict=True
            ):
                group["lr"] = max(0.0, rate * part)
            optimizer.step()
            muon.step(MUON_RATE * left)
            optimizer.zero_grad()
        yield epoch


@torch.no_grad()
def accuracies(model: nn.Module, pictures: Tensor, labels: Tensor, precision: torch.autocast) -> dict[str, float]:
    """Return the accuracy on pictures as they are, and with six views of each.

    The views: the picture, moved up and left and moved down and right by a pixel, each with its mirror image; logits
    are averaged, the unmoved picture counting as much as the other two together.
    """
    model.eval()
    plain, views = 0, 0
    for chosen, truth in zip(pictures.split(2000), labels.split(2000), strict=True):
        height, width = chosen.shape[2:]
        padded = F.pad(chosen, (1,) * 4, mode="reflect")
        moved = [chosen, padded[:, :, :height, :width], padded[:, :, 2:, 2:]]
        with precision:
            logits = [(model(one).float(), model(one.flip(3)).float()) for one in moved]
        unmoved, up, down = ((one + mirrored) / 2 for one, mirrored in logits)
        plain += int((logits[0][0].argmax(1) == truth).sum())
        views += int(((unmoved + (up + down) / 2).argmax(1) == truth).sum())
    return {"plain_accuracy": plain / len(labels), "views_accuracy": views / len(labels)}
