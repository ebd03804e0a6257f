"""What the Inception networks are made of: convolutions with batch norm and ReLU, branches side by side."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.networks.layers.branches import Concat


@final
class ConvNormReLU(nn.Module):
    """Convolution, batch norm, ReLU; its weights are ``conv.weight`` and ``bn.*`` as in torchvision and timm.

    Args:
        inputs, outputs: channels.
        kernel_size, padding: in pixels, square or (height, width).
        stride: in pixels.
        bias: of the convolution; batch norm makes it needless, some published weights have it.
        eps: what batch norm adds to the variance; 0.001 in the authors' Inception networks.

    Forward: maps (N, inputs, H, W) → (N, outputs, H', W').
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = False,
        eps: float = 0.001,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, stride, padding, bias=bias)
        self.bn = nn.BatchNorm2d(outputs, eps=eps)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        activations: Tensor = self.relu(self.bn(self.conv(maps)))
        return activations


def along_rows(inputs: int, outputs: int, width: int) -> ConvNormReLU:
    """Return a convolution whose windows are one pixel tall and an odd number ``width`` wide; it keeps the size."""
    return ConvNormReLU(inputs, outputs, (1, width), padding=(0, width // 2))


def along_columns(inputs: int, outputs: int, height: int) -> ConvNormReLU:
    """Return a convolution whose windows are an odd number ``height`` tall and one pixel wide; it keeps the size."""
    return ConvNormReLU(inputs, outputs, (height, 1), padding=(height // 2, 0))


def concat(branches: dict[str, nn.Module]) -> Concat:
    """Return branches side by side along the channels, under names that published weights give them."""
    block = Concat(())
    for name, branch in branches.items():
        block.add_module(name, branch)
    return block


def initialise_for_backward(network: nn.Module) -> None:
    """Draw convolutions so that gradients keep their scale: He et al., Delving Deep into Rectifiers, ICCV 2015,
    equation 14. The linear layer stays as PyTorch makes it.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def initialise(network: nn.Module) -> None:
    """Draw all weights anew and set all biases to 0.

    Convolutions are normal with variance 2 / fan-in (He et al. 2015, section 2.2), fully connected layers uniform with
    variance 2 / (fan-in + fan-out) (Glorot & Bengio 2010, section 4.2.1).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def refuse_below(least: int, name: str, shape: tuple[int, int, int]) -> None:
    """Refuse pictures (C, H, W) with a side under ``least`` pixels, from which some layer would have no output.

    Raises:
        NetworkError: they are too small.
    """
    _, height, width = shape
    if min(height, width) < least:
        raise NetworkError(
            f"{name} needs pictures of at least {least}×{least}, got {height}×{width}. "
            f"Enlarge them with --size {least} (size={least})."
        )
