"""The layers that PyTorch lacks."""

from __future__ import annotations

from striate.networks.layers.activations import Maxout, ScaledTanh
from striate.networks.layers.blurpool import BlurPool
from striate.networks.layers.branches import Concat, Residual
from striate.networks.layers.fixed import KERNELS, FixedConv
from striate.networks.layers.matrix import convolution_matrix
from striate.networks.layers.normalisation import local_response_norm
from striate.networks.layers.padding import SamePad
from striate.networks.layers.pooling import GlobalAveragePool, GlobalMaxPool, L2Pool, MedianPool, SumPool
from striate.networks.layers.stochastic_depth import StochasticDepth, drop_blocks

__all__ = [
    "KERNELS",
    "BlurPool",
    "Concat",
    "FixedConv",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "L2Pool",
    "Maxout",
    "MedianPool",
    "Residual",
    "SamePad",
    "ScaledTanh",
    "StochasticDepth",
    "SumPool",
    "convolution_matrix",
    "drop_blocks",
    "local_response_norm",
]
