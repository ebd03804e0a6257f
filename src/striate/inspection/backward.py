"""Backward passes that let only part of the gradient through each rectification.

The gradient of ReLU passes where its input was positive. Deconvolution (Zeiler and Fergus, "Visualizing and
Understanding Convolutional Networks", ECCV 2014, section 2.1) passes what is positive in the gradient itself instead;
guided backpropagation (Springenberg et al., "Striving for Simplicity", ICLR 2015 workshop, section 3.4) asks for both.
Everything else goes backwards as in the gradient: convolutions by their transpose, max pooling by its switches.
"""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Rule = Literal["gradient", "deconvolution", "guided"]

_IN_PLACE = (torch.relu_, Tensor.relu_)
_RECTIFIERS = (torch.relu, Tensor.relu, F.relu, *_IN_PLACE)


@final
class Rectified(TorchFunctionMode):
    """While it is entered, every ReLU, in place or not, module or function, goes backwards by a rule.

    Args:
        rule: ``gradient`` changes nothing.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self._rule = rule

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._rule == "gradient" or func not in _RECTIFIERS:
            return func(*args, **kwargs)
        values: Tensor = args[0] if args else kwargs["input"]
        rectified = _Rectify.apply(values, self._rule == "guided")  # type: ignore[no-untyped-call]
        in_place = func in _IN_PLACE or (len(args) > 1 and args[1]) or kwargs.get("inplace", False)
        return values.copy_(rectified) if in_place else rectified


class _Rectify(torch.autograd.Function):
    """max(0, x) whose backward pass keeps what is positive, where x was positive too if it is guided."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, guided: bool) -> Tensor:
        ctx.guided = guided
        rectified = values.clamp(min=0)
        ctx.save_for_backward(rectified)
        return rectified

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rectified,) = ctx.saved_tensors
        passed = gradient.clamp(min=0)
        return (passed * (rectified > 0) if ctx.guided else passed), None
