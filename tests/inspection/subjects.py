"""Networks that looks are tried on: one of each family of the zoo, and modules of other people's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import striate as st

# The smallest of each family, and the pictures that it is looked at with.
ZOO: dict[str, tuple[int, int, int]] = {
    "feedforward1": (1, 28, 28),
    "lenet5": (1, 28, 28),
    "lenet5_paper": (1, 32, 32),
    "speednet_small": (1, 28, 28),
    "alexnet": (3, 67, 67),
    "alexnet_paper": (3, 67, 67),
    "zfnet": (3, 67, 67),
    "nin_cifar10": (3, 32, 32),
    "vgg11": (3, 32, 32),
    "vgg11_bn": (3, 32, 32),
    "googlenet": (3, 64, 64),
    "bninception": (3, 64, 64),
    "inception_v3": (3, 75, 75),
    "inception_v4": (3, 75, 75),
    "inception_resnet_v2": (3, 75, 75),
    "resnet20_cifar10": (3, 32, 32),
    "resnet18": (3, 64, 64),
    "preresnet18": (3, 64, 64),
    "densenet121": (3, 64, 64),
}


class InPlace(nn.Module):
    """Works in place wherever it can, with functions and modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.act(self.norm(self.first(images)))
        maps = self.second(maps)
        maps += 1
        maps.relu_()
        return self.head(F.max_pool2d(maps, 2).mean((2, 3)))


class SaysMore(nn.Module):
    """Returns a dictionary, as many networks of other libraries do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.act = nn.ReLU()
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.act(self.conv(images))
        return {"maps": maps, "logits": self.head(maps.mean((2, 3)))}


class Wrapped(nn.Module):
    """What its user writes to look at a network that returns a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SaysMore()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)["logits"]
        return logits


class Untraceable(nn.Module):
    """Looks at the values of its tensors, so that no trace can say what it does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.ReLU()
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.act(self.conv(images))
        if float(maps.detach().mean()) > 1e6:
            maps = maps * 0.5
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


FOREIGN: dict[str, type[nn.Module]] = {"in place": InPlace, "wrapped": Wrapped, "untraceable": Untraceable}


def build(name: str, seed: int = 0) -> nn.Module:
    """Return a network of `ZOO` (10 classes) or `FOREIGN` (5 classes; pictures of 3×32×32), in evaluation mode."""
    if name in ZOO:
        return st.build(name, st.Spec.of(ZOO[name], 10), seed=seed).eval()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FOREIGN[name]().eval()


def settle(network: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """Set the statistics of batch normalisation where a network so deep has no finite answers without."""
    noise = torch.randn(8, *shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        if network.eval()(noise).isfinite().all():
            return network
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        network.train()(noise)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return network.eval()


def pictures(name: str, count: int = 2) -> Tensor:
    """Return pictures of the size that a network of `ZOO` or `FOREIGN` takes: (N, C, H, W) uint8, smooth and varied."""
    channels, height, width = ZOO.get(name, (3, 32, 32))
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, channels, 5, 5, generator=generator)
    return (F.interpolate(coarse, (height, width), mode="bilinear") * 255).to(torch.uint8)
