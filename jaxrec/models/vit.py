"""Self-attention networks."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrec import layers
from jaxrec.errors import InputError
from jaxrec.types import Array, Count, Rate


class ViT(nn.Module):
    """The vision transformer: patches of an image as tokens, each attending to all (Dosovitskiy et al., 2021).

    Attributes:
      classes: number of classes K.
      patch: side of the square patches, in pixels.
      width: features D of a token.
      depth: number of blocks.
      heads: of the attention; they share the features out.
      mlp: hidden features of each block's dense layers.
      pool: what is classified: an extra token, or the mean over tokens.
      dropout: rate, after each attention and each dense layer of a block.
      dtype: of the computation; parameters, norms and logits stay float32.
    """

    classes: Count = 10
    patch: Count = 4
    width: Count = 192
    depth: Count = 6
    heads: Count = 3
    mlp: Count = 768
    pool: Literal["cls", "mean"] = "cls"
    dropout: Rate = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` switches dropout on.

        Raises:
          InputError: patches do not divide the image, or heads the width.
        """
        if image.shape[1] % self.patch or image.shape[2] % self.patch:
            raise InputError(
                f"ViT patch = {self.patch} does not divide an image of {image.shape[1]}x{image.shape[2]} pixels."
            )
        if self.width % self.heads:
            raise InputError(f"ViT heads = {self.heads} does not divide width = {self.width}.")
        patches = layers.space_to_depth(image.astype(self.dtype), self.patch)  # [B, H / patch, W / patch, D]
        x = patches.reshape(image.shape[0], -1, patches.shape[-1])  # [B, T, patch**2 * C]
        x = nn.Dense(self.width, dtype=self.dtype, name="embedding")(x)  # [B, T, D]
        if self.pool == "cls":
            cls = self.param("cls", nn.initializers.zeros, (1, 1, self.width))
            x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], 1, self.width)).astype(x.dtype), x], axis=1)
        positions = self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        x = x + positions.astype(x.dtype)
        for _ in range(self.depth):
            x = self._block(x, train)
        x = nn.LayerNorm(dtype=jnp.float32)(x[:, 0] if self.pool == "cls" else x)
        return nn.Dense(self.classes, dtype=jnp.float32)(x if self.pool == "cls" else x.mean(1))

    def _block(self, x: Array, train: bool) -> Array:
        """Attention, then two dense layers, each behind a norm and beside a shortcut: [B, T, D] -> [B, T, D]."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        y = nn.LayerNorm(dtype=jnp.float32)(x).astype(self.dtype)
        qkv = nn.Dense(3 * self.width, dtype=self.dtype)(y)  # [B, T, 3 * D]
        q, k, v = (part.reshape(*x.shape[:2], self.heads, -1) for part in jnp.split(qkv, 3, axis=-1))
        y = jax.nn.dot_product_attention(q, k, v).reshape(x.shape)
        x = x + drop(nn.Dense(self.width, dtype=self.dtype)(y))
        y = nn.LayerNorm(dtype=jnp.float32)(x).astype(self.dtype)
        y = drop(nn.gelu(nn.Dense(self.mlp, dtype=self.dtype)(y)))
        return x + drop(nn.Dense(self.width, dtype=self.dtype)(y))
