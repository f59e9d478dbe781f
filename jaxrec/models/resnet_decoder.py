"""From a code to an image by residual blocks."""

import math
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxrec import layers
from jaxrec.models.blocks import batch_norm, norm_relu
from jaxrec.types import Array, Count, Shape


class ResNetDecoder(nn.Module):
    """A dense layer to a small image, then residual blocks, each of which doubles its sides.

    The generator of SN-GAN (Miyato et al., 2018, table 4a) for 32x32 by default; for 28x28 two blocks begin at 7x7.
    Where the sides of the image are no multiple of 2^blocks, what is too much is cut off at its lower and right edge.

    Attributes:
      shape: (H, W, C) of the images.
      blocks: how often the sides double.
      width: channels of every block.
      dtype: of the computation; parameters, norms and outputs stay float32.
    """

    shape: Shape = (32, 32, 3)
    blocks: Count = 3
    width: Count = 256
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, code: Array, *, train: bool) -> Array:
        """Maps codes [B, Z] to pixels [B, H, W, C] without bounds; `train` switches batch statistics on."""
        height, width, channels = self.shape
        small = [-(-side // 2**self.blocks) for side in (height, width)]
        x = nn.Dense(math.prod(small) * self.width, dtype=self.dtype)(code)
        x = x.reshape(-1, *small, self.width)
        for _ in range(self.blocks):
            # What is 1x1 commutes with the doubling: the same function on a quarter of the pixels.
            shortcut = _double(self._conv(x, self.width, kernel=1))
            x = self._conv(_double(norm_relu(x, train=train, dtype=self.dtype)), self.width, bias=False)
            x = self._conv(norm_relu(x, train=train, dtype=self.dtype), self.width) + shortcut
        x = nn.relu(batch_norm(x[:, :height, :width], train=train, dtype=self.dtype))
        return self._conv(x, channels).astype(jnp.float32)

    def _conv(self, x: Array, features: int, *, kernel: int = 3, bias: bool = True) -> Array:
        """Convolves; a batch norm after it makes a bias redundant."""
        return layers.Conv(features, (kernel, kernel), use_bias=bias, dtype=self.dtype)(x)


def _double(x: Array) -> Array:
    """Repeats each pixel of [B, H, W, C] in a square of four: [B, 2 H, 2 W, C], the nearest neighbour's value.

    As a broadcast, whose gradient is a sum: repeating by an index would make it a scatter.
    """
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
