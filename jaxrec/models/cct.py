"""The compact convolutional transformer."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrec import layers
from jaxrec.models.blocks import linear_rule
from jaxrec.models.transformer import Block, sincos_positions
from jaxrec.types import Array, Count, Rate

# The reference cuts the normal distribution at +-2, which is a hundred deviations away.
normal = nn.initializers.normal(0.02)
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class CCT(nn.Module):
    """The compact convolutional transformer: convolutions make the tokens, attention pools them (Hassani et al., 2021).

      CCT-2/3x2                 width=128, depth=2, heads=2, mlp=128, convolutions=2
      CCT-7/3x1                 the defaults
      CCT-7/7x2                 kernel=7, convolutions=2, for images of 224 pixels

    As in the reference code, the shortcut beside a block's dense layers starts behind their norm, queries, keys and
    values have no bias, and convolutions before the last have 64 channels. Only its "sine" positions are others: they
    number the tokens in row order, where "sincos" knows rows and columns.

    Attributes:
      classes: number of classes K.
      kernel: side of the square kernels. Their stride is kernel // 2 - 1, at least 1.
      convolutions: how many, each followed by relu and by a 3x3 max pool of stride 2.
      width: features D of a token.
      depth: number of blocks.
      heads: of the attention; they share the features out.
      mlp: hidden features of each block's dense layers.
      positions: what tells tokens apart: vectors that are learned, or sines and cosines of row and column.
      dropout: rate, of the tokens with their positions, after each attention and each dense layer of a block.
      attention_dropout: rate, of the attention's weights.
      stochastic_depth: rate, at which an example leaves out a branch of the last block; it rises evenly from 0.
      dtype: of the computation; parameters, norms, pooling and logits stay float32.
    """

    classes: Count = 10
    kernel: Count = 3
    convolutions: Count = 1
    width: Count = 256
    depth: Count = 7
    heads: Count = 4
    mlp: Count = 512
    positions: Literal["learned", "sincos"] = "learned"
    dropout: Rate = 0.0
    attention_dropout: Rate = 0.1
    stochastic_depth: Rate = 0.1
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` switches all dropping on.

        Raises:
          InputError: heads do not divide the width, or 4 the width where positions are sines.
        """
        x = image.astype(self.dtype)
        for index in range(self.convolutions):
            x = self._tokenize(x, self.width if index == self.convolutions - 1 else 64)  # [B, H', W', D]
        grid, x = x.shape[1:3], x.reshape(x.shape[0], -1, self.width)  # [B, T, D]
        if self.positions == "learned":  # the reference's deviation here is ten times that of its kernels
            positions = self.param("positions", nn.initializers.normal(0.2), (1, *x.shape[1:]))
        else:
            positions = sincos_positions(*grid, self.width)
        x = nn.Dropout(self.dropout, deterministic=not train)(x + positions.astype(x.dtype))
        for index, rate in enumerate(linear_rule(self.stochastic_depth, self.depth, from_zero=True)):
            x = Block(
                self.heads,
                self.mlp,
                qkv_bias=False,
                shortcut="norm",
                activation=functools.partial(layers.gelu, approximate=False),
                epsilon=1e-5,
                kernel_init=normal,
                dropout=self.dropout,
                attention_dropout=self.attention_dropout,
                drop_path=rate,
                dtype=self.dtype,
                name=f"block_{index}",
            )(x, train=train)
        x = nn.LayerNorm(1e-5, dtype=jnp.float32)(x)
        scores = nn.Dense(1, dtype=jnp.float32, kernel_init=normal, name="pool")(x)  # [B, T, 1]
        x = (jax.nn.softmax(scores, axis=1) * x).sum(1)  # [B, D]
        return nn.Dense(self.classes, dtype=jnp.float32, kernel_init=normal)(x)

    def _tokenize(self, x: Array, channels: int) -> Array:
        """Convolution, relu and max pool: [B, H, W, C] -> [B, H / 2, W / 2, channels], rounded up, where strides are 1.

        relu after the pool is the same function as before it, on a quarter of the pixels.
        """
        x = layers.Conv(
            channels,
            (self.kernel, self.kernel),
            strides=max(1, self.kernel // 2 - 1),
            padding=self.kernel // 2,
            use_bias=False,
            kernel_init=he_normal,
            dtype=self.dtype,
        )(x)
        return nn.relu(layers.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))))
