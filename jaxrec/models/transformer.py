"""What the self-attention networks share: the block and the positions."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxrec import layers
from jaxrec.errors import InputError
from jaxrec.models.blocks import DropPath
from jaxrec.types import Array, Count, Positive, Rate


class Block(nn.Module):
    """Self-attention, then two dense layers, each behind a norm and beside a shortcut (Vaswani et al., 2017).

    Where the caller makes the collection "intermediates" mutable, "attention" in it holds the weights, the softmax of
    queries times keys, [B, heads, T, T]. Otherwise only `attention_dropout` in training computes them.

    Attributes:
      heads: of the attention; they share the features out.
      mlp: hidden features of the dense layers.
      qkv_bias: whether queries, keys and values have a bias.
      shortcut: where the one beside the dense layers starts: at their norm's input (pre-norm), or at its output, as in
        the compact transformers' reference (Hassani et al., 2021).
      activation: between the dense layers.
      epsilon: what the norms add to a variance.
      kernel_init: of every dense layer.
      dropout: rate, after the attention and each dense layer.
      attention_dropout: rate, of the attention's weights.
      drop_path: rate, at which an example leaves either branch out.
      dtype: of the computation; parameters and norms stay float32.
    """

    heads: Count
    mlp: Count
    qkv_bias: bool = True
    shortcut: Literal["input", "norm"] = "input"
    activation: Callable[[Array], Array] = layers.gelu
    epsilon: Positive = 1e-6
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dropout: Rate = 0.0
    attention_dropout: Rate = 0.0
    drop_path: Rate = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps tokens [B, T, D] to tokens [B, T, D]; `train` switches all dropping on.

        Raises:
          InputError: heads do not divide the features.
        """
        width = x.shape[-1]
        if width % self.heads:
            raise InputError(f"heads = {self.heads} does not divide width = {width}: change one of them.")
        drop, drop_path = nn.Dropout(self.dropout, deterministic=not train), DropPath(self.drop_path)
        y = nn.LayerNorm(self.epsilon, dtype=jnp.float32)(x).astype(self.dtype)
        qkv = self._dense(3 * width, use_bias=self.qkv_bias)(y)  # [B, T, 3 * D]
        q, k, v = (part.reshape(*x.shape[:2], self.heads, -1) for part in jnp.split(qkv, 3, axis=-1))
        y = drop(self._dense(width)(self._attend(q, k, v, train).reshape(x.shape)))
        x = x + drop_path(y, train=train)
        y = nn.LayerNorm(self.epsilon, dtype=jnp.float32)(x).astype(self.dtype)
        x = y if self.shortcut == "norm" else x
        y = drop(self.activation(self._dense(self.mlp)(y)))
        return x + drop_path(drop(self._dense(width)(y)), train=train)

    def _dense(self, features: int, use_bias: bool = True) -> nn.Dense:
        return nn.Dense(features, use_bias, dtype=self.dtype, kernel_init=self.kernel_init)

    def _attend(self, q: Array, k: Array, v: Array, train: bool) -> Array:
        """Mean of the values [B, T, heads, D / heads] under the attention's weights."""
        dropped = train and self.attention_dropout > 0  # which JAX's own attention knows nothing of
        kept = self.is_mutable_collection("intermediates")
        if dropped or kept:
            scores = jnp.einsum("bthd,bshd->bhts", q, k, preferred_element_type=jnp.float32)
            weights = jax.nn.softmax(scores / np.sqrt(q.shape[-1]))  # [B, heads, T, T]
        if kept:
            self.sow("intermediates", "attention", weights)
        if not dropped:
            return jax.nn.dot_product_attention(q, k, v)
        weights = nn.Dropout(self.attention_dropout, deterministic=False)(weights)
        return jnp.einsum("bhts,bshd->bthd", weights.astype(self.dtype), v)


def sincos_positions(height: int, width: int, features: int) -> np.ndarray:
    """Sines and cosines of the column, then of the row, at wavelengths from 2 pi to 20,000 pi tokens.

    As in MoCo v3 (Chen et al., 2021), and, up to the spacing of the wavelengths, as in Beyer et al. (2022).

    Args:
      height: rows of tokens.
      width: columns of tokens.
      features: D, a multiple of 4: a quarter each of sine and cosine of the column, sine and cosine of the row.

    Returns:
      [1, height * width, D], in row order.

    Raises:
      InputError: D is not a multiple of 4.
    """
    if features % 4:
        raise InputError(f"positions = 'sincos' needs a width that is a multiple of 4, not {features}.")
    frequency = 10_000.0 ** -(np.arange(features // 4) / (features // 4))
    rows, columns = np.mgrid[:height, :width].reshape(2, -1, 1) * frequency  # [H * W, D / 4] each
    table = np.concatenate([np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)], axis=-1)
    return table[None].astype(np.float32)
