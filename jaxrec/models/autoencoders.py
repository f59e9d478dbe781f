"""Autoencoders: a recogniser whose K numbers are a code, and a decoder that makes the image of it again.

The encoder is a submodule of that name, so that its parameters lie under "encoder/" by the paths of the recogniser: a
recogniser can take them over (`train.submodule = "encoder"`).
"""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxrec.models.blocks import ACTIVATIONS
from jaxrec.models.cnn import CNN
from jaxrec.models.decoders import ConvDecoder, DenseDecoder
from jaxrec.models.mlp import MLP
from jaxrec.types import Array, Count, Shape, Widths

CODES = {"linear": lambda code: code, **ACTIVATIONS}


class _Autoencoder(nn.Module):
    """What autoencoders have in common. They name their halves `encoder` and `decoder`."""

    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Maps images [B, H, W, C] to {"logits": [B, H, W, C], "code": [B, Z]}; sigmoid(logits) is the image again."""
        code = self.encode(image, train=train)
        return {"logits": self.decode(code, train=train), "code": code}

    def encode(self, image: Array, *, train: bool = False) -> Array:
        """Maps images [B, H, W, C] to codes [B, Z]."""
        return CODES[self.code_activation](self.encoder(image, train=train))


class DenseAutoencoder(_Autoencoder):
    """Dense layers to a code, and the same widths back to the pixels.

    The deep autoencoder of Hinton and Salakhutdinov (2006), 784-1000-500-250-30 and back, by the default widths and
    activation = "sigmoid".

    Attributes:
      shape: (H, W, C) of the images.
      widths: of the encoder's hidden layers; the decoder's are these in reverse.
      latent: size Z of the code.
      activation: after each hidden layer.
      code_activation: of the code; a sparse one is best "relu", since units can be off then.
      tied: whether the decoder's kernels are the encoder's transposed. Its biases are its own.
      dtype: of the computation; parameters, codes and logits stay float32.
    """

    shape: Shape = (28, 28, 1)
    widths: Widths = (1000, 500, 250)
    latent: Count = 30
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "relu"
    code_activation: Literal["linear", "relu", "tanh", "sigmoid"] = "linear"
    tied: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"

    def setup(self):
        """Names the two halves."""
        like = {"activation": self.activation, "dtype": self.dtype}
        self.encoder = MLP(classes=self.latent, widths=self.widths, **like)
        tied = TiedDecoder(self.shape, **like)
        self.decoder = tied if self.tied else DenseDecoder(self.shape, self.widths[::-1], **like)

    def decode(self, code: Array, *, train: bool = False) -> Array:
        """Maps codes [B, Z] to logits [B, H, W, C]."""
        if not self.tied:
            return self.decoder(code, train=train)
        return self.decoder(code, [self._kernel(layer) for layer in reversed(range(len(self.widths) + 1))])

    def filters(self) -> Array:
        """The weights of each unit of the first layer, as images [N, H, W, C]."""
        return self._kernel(0).T.reshape(-1, *self.shape)

    def _kernel(self, layer: int) -> Array:
        return self.encoder.variables["params"][f"Dense_{layer}"]["kernel"]


class TiedDecoder(nn.Module):
    """Dense layers with the transposed kernels of an encoder and biases of their own.

    Attributes:
      shape: (H, W, C) of the images.
      activation: after each layer but the last.
      dtype: of the computation; parameters and outputs stay float32.
    """

    shape: Shape
    activation: str
    dtype: str

    @nn.compact
    def __call__(self, code: Array, kernels: Sequence[Array]) -> Array:
        """Maps codes [B, Z] to logits [B, H, W, C].

        Args:
          code: [B, Z].
          kernels: of the encoder, the last layer's first: [D, Z], ..., [H * W * C, D].
        """
        x = code
        for layer, kernel in enumerate(kernels):
            if layer:
                x = ACTIVATIONS[self.activation](x)
            dtype = jnp.float32 if layer == len(kernels) - 1 else self.dtype
            bias = self.param(f"bias_{layer}", nn.initializers.zeros, (kernel.shape[0],))
            x = x.astype(dtype) @ kernel.T.astype(dtype) + bias.astype(dtype)[None]
        return x.reshape(-1, *self.shape)


class ConvAutoencoder(_Autoencoder):
    """Convolutions with pooling to a code, and transposed convolutions back to the pixels.

    Attributes:
      shape: (H, W, C) of the images.
      widths: channels of the encoder's convolutions, each followed by pooling; the decoder's are these in reverse.
      latent: size Z of the code.
      hidden: widths of the encoder's dense layers before the code; the decoder goes from the code to a small image at
        once.
      kernel: side of the encoder's kernels; those of the decoder are 4, which covers each pixel equally often.
      pool: what reduces each 2x2 square.
      norm: after each convolution but the decoder's last: none or batch.
      activation: likewise, and after each dense layer.
      code_activation: of the code; a sparse one is best "relu", since units can be off then.
      dtype: of the computation; parameters, norms, codes and logits stay float32.
    """

    shape: Shape = (28, 28, 1)
    widths: Widths = (32, 64)
    latent: Count = 30
    hidden: Widths = ()
    kernel: Count = 3
    pool: Literal["max", "average"] = "max"
    norm: Literal["none", "batch"] = "none"
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "relu"
    code_activation: Literal["linear", "relu", "tanh", "sigmoid"] = "linear"
    dtype: Literal["float32", "bfloat16"] = "float32"

    def setup(self):
        """Names the two halves."""
        like = {"activation": self.activation, "norm": self.norm, "dtype": self.dtype}
        self.encoder = CNN(
            classes=self.latent,
            widths=self.widths,
            kernel=self.kernel,
            pool=self.pool,
            hidden=self.hidden,
            padding="SAME",
            **like,
        )
        self.decoder = ConvDecoder(self.shape, self.widths[::-1], **like)

    def decode(self, code: Array, *, train: bool = False) -> Array:
        """Maps codes [B, Z] to logits [B, H, W, C]."""
        return self.decoder(code, train=train)

    def filters(self) -> Array:
        """The kernels of the first convolution, as images [N, kernel, kernel, C]."""
        return self.encoder.variables["params"]["Conv_0"]["kernel"].transpose(3, 0, 1, 2)
