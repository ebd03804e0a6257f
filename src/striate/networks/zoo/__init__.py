"""The networks of the literature: one family, one file, one paper."""

from striate.networks.zoo import feedforward, lenet, speednet  # noqa: F401  (each enters its networks into the registry)
from striate.networks.zoo.registry import ZOO, ZooEntry

__all__ = ["ZOO", "ZooEntry"]
