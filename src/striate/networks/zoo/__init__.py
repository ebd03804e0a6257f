"""The networks of the literature: one family, one file, one paper."""

from striate.networks.zoo import (  # noqa: F401  (each enters its networks into the registry)
    alexnet,
    bninception,
    densenet,
    feedforward,
    googlenet,
    inception_resnet,
    inception_v3,
    inception_v4,
    lenet,
    nin,
    preresnet,
    resnet,
    speednet,
    vgg,
    zfnet,
)
from striate.networks.zoo.registry import ZOO, ZooEntry

__all__ = ["ZOO", "ZooEntry"]
