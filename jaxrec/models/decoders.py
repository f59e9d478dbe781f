"""From a code to an image: the decoders of autoencoders, which are the generators of adversarial networks."""

import math
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxrec import layers
from jaxrec.models.blocks import ACTIVATIONS, batch_norm
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
        x = code
        for width in self.widths:
            x = ACTIVATIONS[self.activation](nn.Dense(width, dtype=self.dtype)(x))
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
