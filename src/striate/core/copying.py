"""Copies of networks, also of those that keep what they have computed."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Network = TypeVar("Network", bound=nn.Module)


def copy_of(network: Network) -> Network:
    """Return a deep copy that shares nothing with the network.

    A module may keep an activation (``self.features = x``), which PyTorch refuses to copy while it has a history: the
    copy keeps its values.
    """
    with _WithoutHistory():
        return copy.deepcopy(network)


class _WithoutHistory(TorchFunctionMode):
    """Copies a tensor that was computed as its values alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[0].detach().clone()
        return func(*args, **(kwargs or {}))
