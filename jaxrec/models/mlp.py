"""Fully connected networks."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxrec.models.blocks import dense_layers
from jaxrec.types import Array, Count, Rate, Widths


class MLP(nn.Module):
    """Dense layers on the image as one vector, the multilayer perceptron (Rumelhart et al., 1986).

    Attributes:
      classes: number of classes K.
      widths: of the hidden layers.
      activation: after each hidden layer.
      dropout: rate, after each hidden layer.
      dtype: of the computation; parameters and logits stay float32.
    """

    classes: Count = 10
    widths: Widths = (512, 512)
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "relu"
    dropout: Rate = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` switches dropout on."""
        x = image.reshape(image.shape[0], -1)  # [B, D]
        x = dense_layers(x, self.widths, self.activation, dropout=self.dropout, train=train, dtype=self.dtype)
        return nn.Dense(self.classes, dtype=jnp.float32)(x.astype(jnp.float32))
