"""Padding to "same" with any stride, which PyTorch's convolutions refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

from torch import Tensor, nn
from torch.nn import functional as F

from striate.networks.shapes import Window, same_padding

PaddingMode = Literal["constant", "reflect", "replicate", "circular"]


@final
class SamePad(nn.Module):
    """Pads so that a window of ``kernel`` moved by ``stride`` leaves ceil(W / S) outputs.

    The widths follow from the size of each input, as in TensorFlow: where their sum is odd, the extra pixel
    goes after (below, right).

    Args:
        kernel, stride, dilation: of the convolution that follows, one number per axis.
        mode: PyTorch's name of the padding mode.
        value: what is padded with where ``mode`` is ``"constant"``.
    """

    def __init__(
        self,
        kernel: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        mode: PaddingMode = "constant",
        value: float = 0.0,
    ) -> None:
        super().__init__()
        axes = zip(kernel, stride, dilation, strict=True)
        self.windows = tuple(Window(k, s, dilation=d) for k, s, d in axes)
        self.mode = mode
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, L), (N, C, H, W) or (N, C, D, H, W) → the same with wider axes."""
        widths: list[int] = []
        for window, size in zip(self.windows, x.shape[2:], strict=True):
            widths = [
                *same_padding(size, window.extent, window.stride),
                *widths,
            ]  # F.pad wants the last axis first
        return F.pad(x, widths, self.mode, self.value if self.mode == "constant" else None)

    def extra_repr(self) -> str:
        kernel, stride = (tuple(getattr(w, name) for w in self.windows) for name in ("extent", "stride"))
        return f"extent={kernel}, stride={stride}, mode={self.mode}"
