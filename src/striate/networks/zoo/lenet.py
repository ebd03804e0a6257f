"""LeNet-5: the convolutional network that read cheques.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86(11),
1998, sections II.B and II.C.

Small filters shared over the whole picture, subsampling between them, a few fully connected layers at the end: shift a
digit and its features shift with it.

========  ==================  ==========  =====================  ======================
layer     what                output      ``lenet5`` parameters  ``lenet5_paper``
========  ==================  ==========  =====================  ======================
C1        6 filters 5×5       6×28×28     156                    156
S2        2×2 subsampling     6×14×14     0                      12
C3        16 filters 5×5      16×10×10    2,416                  1,516 (connection table)
S4        2×2 subsampling     16×5×5      0                      32
C5        120 filters 5×5     120×1×1     48,120                 48,120
F6        84 units            84          10,164                 10,164
output    K classes           10          850                    0 (840 fixed)
total                                     61,706                 60,000
========  ==================  ==========  =====================  ======================

``lenet5`` is the network that goes by that name today. It differs from the paper, which is ``lenet5_paper``: every
C3 map sees all six S2 maps, subsampling is plain averaging without coefficient, bias or squashing, tanh is not
scaled, the output is a fully connected layer under softmax instead of Euclidean distances to fixed bitmaps, and
Xavier initialisation is used. Both take 28×28 pictures by padding them to the 32×32 field of the paper.

``lenet5_paper`` differs from the paper in its loss (the negative distances are trained as logits, by whatever loss the
recipe names) and in the bitmaps: they are drawn in the manner of the paper's figure 3, not copied from it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.core.errors import NetworkError
from striate.networks.layers.activations import ScaledTanh
from striate.networks.zoo.registry import enter

_PAPER = "LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998"
_FIELD = 32  # the picture that C1 sees, in pixels

# Table I of the paper: which of the six S2 maps each of the sixteen C3 maps is connected to.
C3_TABLE: tuple[tuple[int, ...], ...] = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip

# One 7×12 bitmap per digit, a hexadecimal number per row, most significant bit left.
_BITMAPS: tuple[tuple[int, ...], ...] = (
    (0x00, 0x1C, 0x22, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x22, 0x1C, 0x00),
    (0x00, 0x08, 0x18, 0x28, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x3E, 0x00),
    (0x00, 0x3E, 0x41, 0x01, 0x01, 0x02, 0x0C, 0x10, 0x20, 0x40, 0x7F, 0x00),
    (0x00, 0x7F, 0x02, 0x04, 0x08, 0x1E, 0x01, 0x01, 0x01, 0x41, 0x3E, 0x00),
    (0x00, 0x04, 0x0C, 0x14, 0x24, 0x44, 0x44, 0x7F, 0x04, 0x04, 0x04, 0x00),
    (0x00, 0x7F, 0x40, 0x40, 0x5E, 0x61, 0x01, 0x01, 0x01, 0x61, 0x1E, 0x00),
    (0x00, 0x1E, 0x20, 0x40, 0x40, 0x5E, 0x61, 0x41, 0x41, 0x21, 0x1E, 0x00),
    (0x00, 0x7F, 0x01, 0x02, 0x02, 0x04, 0x08, 0x08, 0x10, 0x10, 0x10, 0x00),
    (0x00, 0x1C, 0x22, 0x41, 0x22, 0x1C, 0x22, 0x41, 0x41, 0x22, 0x1C, 0x00),
    (0x00, 0x3C, 0x42, 0x41, 0x41, 0x43, 0x3D, 0x01, 0x01, 0x02, 0x3C, 0x00),
)


class LeNet5(nn.Module):
    """LeNet-5 as it is built today.

    Args:
        shape: (C, H, W); H and W at least 28. Under 32 the picture is padded by 2 on each side.
        classes: K.

    Forward: images (N, C, H, W) → logits (N, K).
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        pad = _pad("lenet5", height, width)
        rows, columns = (_after_c5(side + 2 * pad) for side in (height, width))
        self.c1 = nn.Conv2d(channels, 6, 5, padding=pad)
        self.s2 = nn.AvgPool2d(2)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.s4 = nn.AvgPool2d(2)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120 * rows * columns, 84)
        self.head = nn.Linear(84, classes)
        for layer in (self.c1, self.c3, self.c5, self.f6):
            nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain("tanh"))
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The layers by the paper's names, input to output."""
        return dict(self.named_children())

    def forward(self, images: Tensor) -> Tensor:
        maps = self.s2(torch.tanh(self.c1(images)))  # (N, 6, 14, 14)
        maps = self.s4(torch.tanh(self.c3(maps)))  # (N, 16, 5, 5)
        maps = torch.tanh(self.c5(maps))  # (N, 120, 1, 1)
        features = torch.tanh(self.f6(maps.flatten(1)))  # (N, 84)
        logits: Tensor = self.head(features)
        return logits


class TableConvolution(nn.Module):
    """A convolution whose output maps each see only some input maps; only those weights exist.

    Args:
        inputs: number of input maps.
        table: for each output map, the input maps that it is connected to.
        kernel_size: in pixels, square.

    Forward: (N, inputs, H, W) → (N, len(table), H − kernel_size + 1, W − kernel_size + 1).
    """

    def __init__(self, inputs: int, table: tuple[tuple[int, ...], ...], kernel_size: int) -> None:
        super().__init__()
        pairs = [(output, source) for output, sources in enumerate(table) for source in sources]
        self.inputs = inputs
        self.register_buffer("pairs", torch.tensor(pairs, device="cpu").T.contiguous(), persistent=False)
        self.pairs: Tensor
        self.weight = nn.Parameter(torch.empty(len(pairs), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(len(table)))
        for output, sources in enumerate(table):
            rows = [index for index, (to, _) in enumerate(pairs) if to == output]
            _initialise(self.weight[rows[0] : rows[-1] + 1], len(sources) * kernel_size**2)

    def forward(self, maps: Tensor) -> Tensor:
        kernel_size = self.weight.shape[-1]
        full = self.weight.new_zeros(len(self.bias), self.inputs, kernel_size, kernel_size)
        full = full.index_put((self.pairs[0], self.pairs[1]), self.weight)
        return F.conv2d(maps, full, self.bias)


class Subsampling(nn.Module):
    """Trainable 2×2 subsampling: the sum of four inputs, times one coefficient per map, plus one bias per map.

    Args:
        maps: number of maps C.

    Forward: (N, C, H, W) → (N, C, H // 2, W // 2).
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(maps))
        self.bias = nn.Parameter(torch.zeros(maps))
        # Four inputs by one coefficient: starting at the mean keeps the scale of the maps, which ±2.4/4 would not.
        nn.init.constant_(self.coefficient, 1 / 4)

    def forward(self, maps: Tensor) -> Tensor:
        total = F.avg_pool2d(maps, 2) * 4
        return total * self.coefficient[:, None, None] + self.bias[:, None, None]


class LeNet5Paper(nn.Module):
    """LeNet-5 as the paper describes it: C3 table, trainable subsampling, scaled tanh, fixed RBF output.

    Args:
        shape: (C, H, W); H and W at least 28. Under 32 the picture is padded by 2 on each side.
        classes: K. The first ten have a digit's bitmap as their code, any further ones a fixed random code.

    Forward: images (N, C, H, W) → negative squared distances (N, K), the largest for the nearest code (equation 7).
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        pad = _pad("lenet5_paper", height, width)
        rows, columns = (_after_c5(side + 2 * pad) for side in (height, width))
        self.c1 = nn.Conv2d(channels, 6, 5, padding=pad)
        self.s2 = Subsampling(6)
        self.c3 = TableConvolution(6, C3_TABLE, 5)
        self.s4 = Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120 * rows * columns, 84)
        self.squash = ScaledTanh()
        self.register_buffer("codes", _codes(classes))
        self.codes: Tensor
        for layer in (self.c1, self.c5, self.f6):
            _initialise(layer.weight, layer.weight[0].numel())
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The layers by the paper's names, input to output."""
        return {name: module for name, module in self.named_children() if name != "squash"}

    def forward(self, images: Tensor) -> Tensor:
        maps = self.squash(self.s2(self.squash(self.c1(images))))  # (N, 6, 14, 14)
        maps = self.squash(self.s4(self.squash(self.c3(maps))))  # (N, 16, 5, 5)
        maps = self.squash(self.c5(maps))  # (N, 120, 1, 1)
        features = self.squash(self.f6(maps.flatten(1)))  # (N, 84)
        distances: Tensor = (features[:, None] - self.codes).square().sum(2)  # (N, K)
        return -distances


def _pad(name: str, height: int, width: int) -> int:
    """Return the padding that turns the picture into the paper's field, or refuse a picture that is too small."""
    side = min(height, width)
    if side < _FIELD - 4:
        raise NetworkError(
            f"{name} needs pictures of at least 28×28, got {height}×{width}. Enlarge them with --size 28 (size=28)."
        )
    return 0 if side >= _FIELD else 2


def _after_c5(side: int) -> int:
    return ((side - 4) // 2 - 4) // 2 - 4


def _initialise(weight: Tensor, fan_in: int) -> None:
    """Uniform within ±2.4 / fan-in (appendix A of the paper)."""
    with torch.no_grad():
        weight.uniform_(-2.4 / fan_in, 2.4 / fan_in)


def _codes(classes: int) -> Tensor:
    """Return the fixed targets of F6, (K, 84), each element −1 or +1."""
    bits = [[(row >> (6 - column)) & 1 for row in bitmap for column in range(7)] for bitmap in _BITMAPS[:classes]]
    codes = torch.tensor(bits, dtype=torch.float32, device="cpu") * 2 - 1
    if classes > len(codes):
        generator = torch.Generator().manual_seed(1998)
        random = torch.randint(0, 2, (classes - len(codes), 84), generator=generator, device="cpu")
        codes = torch.cat([codes, random * 2.0 - 1])
    return codes


@enter("lenet5", year=1998, title="LeNet-5 as built today", paper=_PAPER, shape=(1, 28, 28), classes=10)
def lenet5(*, shape: tuple[int, int, int], classes: int) -> LeNet5:
    """Return LeNet-5 with 61,706 parameters for 28×28 grey pictures of 10 classes."""
    return LeNet5(shape, classes)


@enter("lenet5_paper", year=1998, title="LeNet-5 as published", paper=_PAPER, shape=(1, 32, 32), classes=10)
def lenet5_paper(*, shape: tuple[int, int, int], classes: int) -> LeNet5Paper:
    """Return LeNet-5 with 60,000 trainable parameters and a fixed RBF output."""
    return LeNet5Paper(shape, classes)
