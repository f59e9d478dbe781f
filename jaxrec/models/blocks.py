"""What several networks are made of."""

import jax.numpy as jnp
from flax import linen as nn

from jaxrec.types import Array, Rate

ACTIVATIONS = {"relu": nn.relu, "tanh": jnp.tanh, "sigmoid": nn.sigmoid, "gelu": nn.gelu}


class DropPath(nn.Module):
    """Drops a residual branch of whole examples in training: stochastic depth (Huang et al., 2016).

    Attributes:
      rate: share of the examples whose branch is 0; the others' are divided by 1 - rate.
    """

    rate: Rate

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps [B, ...] to [B, ...]; `train` switches dropping on."""
        return nn.Dropout(self.rate, broadcast_dims=tuple(range(1, x.ndim)), deterministic=not train)(x)
