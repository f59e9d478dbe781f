"""Convolution, pooling, resampling, batch normalization and activation, fast on every backend.

The names, signatures, parameters and results are those of `flax.linen`, so a checkpoint fits either. On a CPU, where
XLA's own lowering of a few of these operations costs several times the arithmetic, they lower to equal forms that do
not; `jaxrec/layers/platform.py` is where that is decided, and `plain()` switches it off.
"""

from jaxrec.layers.activation import gelu
from jaxrec.layers.blocks import space_to_depth
from jaxrec.layers.convolution import Conv
from jaxrec.layers.normalization import BatchNorm
from jaxrec.layers.platform import plain, second_order
from jaxrec.layers.pooling import avg_pool, max_pool
from jaxrec.layers.transposed import ConvTranspose

__all__ = [
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "avg_pool",
    "gelu",
    "max_pool",
    "plain",
    "second_order",
    "space_to_depth",
]
