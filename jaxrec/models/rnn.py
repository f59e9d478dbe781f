"""Recurrent networks, which read an image as a sequence."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxrec.types import Array, Count


class RNN(nn.Module):
    """Recurrent layers over the rows or the pixels of an image; the last output is classified.

    Simple: Elman (1990). LSTM: Hochreiter and Schmidhuber (1997). GRU: Cho et al. (2014). Recurrent kernels start
    orthogonal.

    Attributes:
      classes: number of classes K.
      cell: what a layer does at each step.
      hidden: features D of a layer.
      layers: how many.
      read: the sequence, from the top left: H rows of W * C features, or H * W pixels of C.
      dtype: of the computation; parameters and logits stay float32.
    """

    classes: Count = 10
    cell: Literal["simple", "lstm", "gru"] = "lstm"
    hidden: Count = 128
    layers: Count = 1
    read: Literal["rows", "pixels"] = "rows"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` makes no difference."""
        b, h, w, c = image.shape
        x = image.reshape(b, h, w * c) if self.read == "rows" else image.reshape(b, h * w, c)  # [B, T, D]
        for _ in range(self.layers):
            x = nn.RNN(self._cell())(x)
        return nn.Dense(self.classes, dtype=jnp.float32)(x[:, -1].astype(jnp.float32))

    def _cell(self) -> nn.RNNCellBase:
        if self.cell == "simple":  # its state is an activation, where a gated one adds up, in float32
            return nn.SimpleCell(
                self.hidden, dtype=self.dtype, carry_init=lambda key, shape, _: jnp.zeros(shape, self.dtype)
            )
        return (nn.OptimizedLSTMCell if self.cell == "lstm" else nn.GRUCell)(self.hidden, dtype=self.dtype)
