"""The vision transformer."""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxrec import layers
from jaxrec.errors import InputError
from jaxrec.models.blocks import linear_rule
from jaxrec.models.transformer import Block, sincos_positions
from jaxrec.types import Array, Count, Rate


class ViT(nn.Module):
    """The vision transformer: patches of an image as tokens, each attending to all (Dosovitskiy et al., 2021).

      ViT-B/16                  patch=16, width=768, depth=12, heads=12, mlp=3072
      ViT-Lite-7/4              patch=4, width=256, depth=7, heads=4, mlp=512, qkv_bias=False

    ViT-Lite is Hassani et al.'s (2021); their code has the shortcuts of `CCT`'s blocks, this one the paper's.

    Attributes:
      classes: number of classes K.
      patch: side of the square patches, in pixels.
      width: features D of a token.
      depth: number of blocks.
      heads: of the attention; they share the features out.
      mlp: hidden features of each block's dense layers.
      qkv_bias: whether queries, keys and values have a bias.
      pool: what is classified: an extra token, or the mean over tokens.
      positions: what tells tokens apart: vectors that are learned, or sines and cosines of row and column; the latter
        are 0 for the extra token.
      dropout: rate, after each attention and each dense layer of a block.
      stochastic_depth: rate, at which an example leaves out a branch of the last block; it rises evenly from 0.
      dtype: of the computation; parameters, norms and logits stay float32.
    """

    classes: Count = 10
    patch: Count = 4
    width: Count = 192
    depth: Count = 6
    heads: Count = 3
    mlp: Count = 768
    qkv_bias: bool = True
    pool: Literal["cls", "mean"] = "cls"
    positions: Literal["learned", "sincos"] = "learned"
    dropout: Rate = 0.0
    stochastic_depth: Rate = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` switches dropout and stochastic depth on.

        Raises:
          InputError: patches do not divide the image, heads the width, or 4 the width where positions are sines.
        """
        if image.shape[1] % self.patch or image.shape[2] % self.patch:
            raise InputError(
                f"ViT patch = {self.patch} does not divide an image of {image.shape[1]}x{image.shape[2]} pixels."
            )
        patches = layers.space_to_depth(image.astype(self.dtype), self.patch)  # [B, H / patch, W / patch, D]
        x = patches.reshape(image.shape[0], -1, patches.shape[-1])  # [B, T, patch**2 * C]
        x = nn.Dense(self.width, dtype=self.dtype, name="embedding")(x)  # [B, T, D]
        extra = self.pool == "cls"
        if extra:
            cls = self.param("cls", nn.initializers.zeros, (1, 1, self.width))
            x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], 1, self.width)).astype(x.dtype), x], axis=1)
        if self.positions == "learned":
            positions = self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        else:
            positions = np.pad(sincos_positions(*patches.shape[1:3], self.width), ((0, 0), (int(extra), 0), (0, 0)))
        x = x + positions.astype(x.dtype)
        for index, rate in enumerate(linear_rule(self.stochastic_depth, self.depth, from_zero=True)):
            x = Block(
                self.heads,
                self.mlp,
                self.qkv_bias,
                dropout=self.dropout,
                drop_path=rate,
                dtype=self.dtype,
                name=f"block_{index}",
            )(x, train=train)
        x = nn.LayerNorm(dtype=jnp.float32)(x[:, 0] if extra else x)
        return nn.Dense(self.classes, dtype=jnp.float32)(x if extra else x.mean(1))
