"""Batch normalisation by the statistics of a batch that several processes share."""

from __future__ import annotations

import contextlib
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from striate.core import processes


def synchronised(wanted: bool = True) -> contextlib.AbstractContextManager[object]:
    """Return the context in which batch norms in training see the pictures of all processes, and not only their own.

    The network stays what it is: its calls of ``batch_norm`` are computed in another way, equal to ``batch_norm`` of
    the whole batch up to rounding, running statistics included, however many pictures each process has. One small
    all-reduce per norm and pass (as in Peng et al., MegDet, CVPR 2018, section 3.2). All processes must call the same
    norms in the same order. Nothing changes where there is one process alone.
    """
    return _SyncNorm() if wanted and processes.world() > 1 else contextlib.nullcontext()


@final
class _SyncNorm(TorchFunctionMode):
    """Puts `batch_norm` in the place of PyTorch's."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.batch_norm:
            return batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def batch_norm(
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise (N, C, …) as ``torch.nn.functional.batch_norm`` does; in training by the mean and variance over all."""
    if not training:
        return torch.batch_norm(
            images, weight, bias, running_mean, running_var, False, momentum, eps, torch.backends.cudnn.enabled
        )
    with torch.no_grad():
        mean, var, count = _statistics(images)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var.dtype), momentum)
    normalised: Tensor = _Normalise.apply(images, mean, (var + eps).rsqrt(), count)  # type: ignore[no-untyped-call]
    shape = (1, -1, *[1] * (images.ndim - 2))
    if weight is not None:
        normalised = normalised * weight.view(shape)
    if bias is not None:
        normalised = normalised + bias.view(shape)
    return normalised.to(images.dtype)


def _statistics(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean and the biased variance of each channel over all processes, (C,), and how many values each has.

    The parts are joined by their own means (Chan, Golub and LeVeque 1979): a difference of two large sums, of squares
    and of the mean, would lose the digits of a small variance.
    """
    channels = images.shape[1]
    numbers = images.double() if images.dtype == torch.float64 else images.float()
    var, mean = torch.var_mean(numbers, [0, *range(2, images.ndim)], correction=0)
    count = mean.new_full((1,), images.numel() // channels)
    parts = processes.side_by_side(torch.cat([mean, var, count]))  # (world, 2C + 1)
    means, variances, counts = parts[:, :channels], parts[:, channels:-1], parts[:, -1:]
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    return mean, (counts * (variances + (means - mean) ** 2)).sum(0) / total, total


@final
class _Normalise(torch.autograd.Function):
    """(x − mean) / deviation, whose gradient knows that mean and deviation are of the x of all processes."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, mean: Tensor, scale: Tensor, count: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (images.ndim - 2))
        normalised = (images - mean.view(shape)) * scale.view(shape)
        ctx.save_for_backward(normalised, scale, count)
        return normalised

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Return scale · (g − mean of g − x̂ · mean of g·x̂), the means over all processes (Ioffe & Szegedy 2015)."""
        normalised, scale, count = ctx.saved_tensors
        over, shape = [0, *range(2, gradient.ndim)], (1, -1, *[1] * (gradient.ndim - 2))
        sums = torch.stack([gradient.sum(over), (gradient * normalised).sum(over)])  # (2, C)
        of_g, of_gx = (processes.add_up(sums) / count).view(2, *shape)
        return (gradient - of_g - normalised * of_gx) * scale.view(shape), None, None, None
