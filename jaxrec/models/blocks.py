"""What several networks are made of."""

import jax.numpy as jnp
from flax import linen as nn

from jaxrec.types import Array, Rate

ACTIVATIONS = {"relu": nn.relu, "tanh": jnp.tanh, "sigmoid": nn.sigmoid, "gelu": nn.gelu}


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., 2016): drops a residual branch for whole examples.

    What is kept is scaled up in training, where the paper scales down in evaluation: the same expectation.

    Attributes:
      rate: share of the examples that are dropped.
    """

    rate: Rate = 0.0

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps [B, ...] to the same shape; `train` switches dropping on."""
        return nn.Dropout(self.rate, broadcast_dims=tuple(range(1, x.ndim)), deterministic=not train)(x)
