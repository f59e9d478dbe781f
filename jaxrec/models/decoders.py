"""From a code to an image: the decoders of autoencoders, which are the generators of adversarial networks."""

import math
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxrec import layers
from jaxrec.models.blocks import ACTIVATIONS, batch_norm, dense_layers, norm_relu
from jaxrec.types import Array, Count, Shape, Widths


class DenseDecoder(nn.Module):
    """Dense layers from the code to all pixels: the multilayer perceptron run backwards.

    Attributes:
      shape: (H, W, C) of the images.
      widths: of the hidden layers.
      activation: after each hidden layer.
      dtype: of the computation; parameters and outputs stay float32.
    """

    shape: Shape = (28, 28, 1)
    widths: Widths = (512, 512)
    activation: Literal["relu", "tanh", "sigmoid", "gelu", "leaky_relu"] = "relu"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, code: Array, *, train: bool) -> Array:
        """Maps codes [B, Z] to pixels [B, H, W, C] without bounds: logits, as a sigmoid or tanh takes them."""
        del train
        x = dense_layers(code, self.widths, self.activation, dtype=self.dtype)
        pixels = nn.Dense(math.prod(self.shape), dtype=jnp.float32)(x.astype(jnp.float32))
        return pixels.reshape(-1, *self.shape)


class ConvDecoder(nn.Module):
    """A dense layer to a small image of many channels, then transposed convolutions, each of which doubles its sides.

    The generator of DCGAN (Radford et al., 2016) with norm = "batch". Where the sides of the image are no multiple of
    2^len(widths), what is too much is cut off at its lower and right edge.

    Attributes:
      shape: (H, W, C) of the images.
      widths: channels of the small image and after each transposed convolution but the last, which gives the C pixels.
      kernel: side of the kernels.
      norm: after the dense layer and each convolution but the last: none or batch.
      activation: likewise.
      dtype: of the computation; parameters, norms and outputs stay float32.
    """

    shape: Shape = (28, 28, 1)
    widths: Widths = (64, 32)
    kernel: Count = 4
    norm: Literal["none", "batch"] = "none"
    activation: Literal["relu", "tanh", "sigmoid", "gelu", "leaky_relu"] = "relu"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, code: Array, *, train: bool) -> Array:
        """Maps codes [B, Z] to pixels [B, H, W, C] without bounds; `train` switches batch statistics on."""
        height, width, channels = self.shape
        small = [-(-side // 2 ** len(self.widths)) for side in (height, width)]
        x = nn.Dense(math.prod(small) * self.widths[0], use_bias=self.norm == "none", dtype=self.dtype)(code)
        x = self._finish(x.reshape(-1, *small, self.widths[0]), train)
        for features in self.widths[1:]:
            x = self._finish(self._double(x, features, use_bias=self.norm == "none"), train)
        return self._double(x, channels, use_bias=True)[:, :height, :width].astype(jnp.float32)

    def _double(self, x: Array, features: int, *, use_bias: bool) -> Array:
        kernel = (self.kernel, self.kernel)
        return layers.ConvTranspose(features, kernel, strides=(2, 2), use_bias=use_bias, dtype=self.dtype)(x)

    def _finish(self, x: Array, train: bool) -> Array:
        x = batch_norm(x, train=train, dtype=self.dtype) if self.norm == "batch" else x
        return ACTIVATIONS[self.activation](x)


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
