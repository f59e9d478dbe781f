"""Variational autoencoders: a recogniser that says where the code of an image lies, and a decoder that draws a code."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrec.models.cnn import CNN
from jaxrec.models.decoders import ConvDecoder, DenseDecoder
from jaxrec.models.mlp import MLP
from jaxrec.types import Array, Count, Key, Shape, Widths


class _Variational(nn.Module):
    """What variational autoencoders share (Kingma and Welling, 2014); a subclass has the networks.

    The encoder gives mean and log variance of q(z|x), a Gaussian without correlations; the prior p(z) is standard.

    Attributes:
      shape: (H, W, C) of the images.
      latent: size Z of the code.
      classes: K, where encoder and decoder are told the label, one-hot (Sohn et al., 2015); None: they are not.
      scaled: whether the logarithm of one scale for all pixels is learned, for a likelihood that has one.
      dtype: of the computation; parameters, norms, codes and outputs stay float32.
    """

    shape: Shape = (28, 28, 1)
    latent: Count = 50
    classes: Count | None = None
    scaled: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"

    def setup(self) -> None:
        """Makes the networks, "encoder" and "decoder"."""
        self.encoder, self.decoder = self._networks()
        if self.scaled:
            # The pixels of most data deviate from their mean by about e^-1, from a good reconstruction by about e^-3.
            # Adam moves a number by its rate at a step, thousands of steps for that, so a tenth of it is learned.
            self.log_scale = 10 * self.param("log_scale_tenth", nn.initializers.constant(-0.1), ())

    def __call__(
        self, image: Array, keys: Key | None, label: Array | None = None, *, train: bool, samples: Count = 1
    ) -> dict[str, Array]:
        """Encodes images, draws codes and decodes them.

        Args:
          image: [B, H, W, C].
          keys: [B], of the noise of each example; None: the one code is the mean, as in a plain autoencoder.
          label: [B], where the model is conditional.
          train: switches batch statistics on.
          samples: S, codes drawn for each example.

        Returns:
          "mean" and "log_var" [B, Z], "code" [B, S, Z], "logits" [B, S, H, W, C] (pixels without bounds, whatever the
          likelihood makes of them), and "log_scale" [] where it is learned.
        """
        mean, log_var = self.encode(image, label, train=train)
        code = mean[:, None] if keys is None else sample(mean, log_var, keys, jnp.arange(samples))
        return {"mean": mean, "log_var": log_var, "code": code, **self.decode(code, label, train=train)}

    def encode(self, image: Array, label: Array | None = None, *, train: bool) -> tuple[Array, Array]:
        """Mean and log variance of q(z|x), each [B, Z], of images [B, H, W, C] and their labels [B]."""
        mean, log_var = jnp.split(self.encoder(self._labelled(image, label), train=train), 2, axis=-1)
        return mean, log_var

    def decode(self, code: Array, label: Array | None = None, *, train: bool) -> dict[str, Array]:
        """What p(x|z) is made of, "logits" and "log_scale" as above, for codes [B, S, Z] and labels [B]."""
        batch, samples, _ = code.shape
        if self.classes:
            told = jax.nn.one_hot(label, self.classes)[:, None].repeat(samples, axis=1)  # [B, S, K]
            code = jnp.concatenate([code, told], axis=-1)
        logits = self.decoder(code.reshape(batch * samples, -1), train=train)
        scale = {"log_scale": self.log_scale} if self.scaled else {}
        return {"logits": logits.reshape(batch, samples, *self.shape), **scale}


class DenseVAE(_Variational):
    """Dense layers, 784-200-200-50-200-200-784 as it stands (Burda et al., 2016, with one stochastic layer).

    Attributes:
      shape: as in the class above, as are `latent`, `classes`, `scaled` and `dtype`.
      widths: of the encoder's hidden layers; the decoder has them in reverse.
      activation: after each hidden layer.
    """

    widths: Widths = (200, 200)
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "tanh"

    def _networks(self) -> tuple[nn.Module, nn.Module]:
        options = {"activation": self.activation, "dtype": self.dtype}
        encoder = MLP(classes=2 * self.latent, widths=self.widths, **options)
        return encoder, DenseDecoder(shape=self.shape, widths=self.widths[::-1], **options)

    def _labelled(self, image: Array, label: Array | None) -> Array:
        """The pixels and the label as one row, [B, 1, 1, D + K]."""
        if not self.classes:
            return image
        pixels = image.reshape(len(image), math.prod(self.shape))
        return jnp.concatenate([pixels, jax.nn.one_hot(label, self.classes)], axis=-1)[:, None, None]


class ConvVAE(_Variational):
    """Convolutions with pooling, and transposed convolutions back.

    Attributes:
      shape: as in the class above, as are `latent`, `classes`, `scaled` and `dtype`.
      widths: channels of the encoder's convolutions, each of which halves the sides; the decoder has them in reverse.
      hidden: widths of the encoder's dense layers before the code.
      norm: in both networks, none or batch.
      activation: likewise.
    """

    widths: Widths = (32, 64)
    hidden: Widths = (256,)
    norm: Literal["none", "batch"] = "none"
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "relu"

    def _networks(self) -> tuple[nn.Module, nn.Module]:
        options = {"norm": self.norm, "activation": self.activation, "dtype": self.dtype}
        encoder = CNN(classes=2 * self.latent, widths=self.widths, hidden=self.hidden, padding="SAME", **options)
        return encoder, ConvDecoder(shape=self.shape, widths=self.widths[::-1], **options)

    def _labelled(self, image: Array, label: Array | None) -> Array:
        """The label as K more channels, each of one value: [B, H, W, C + K]."""
        if not self.classes:
            return image
        told = jax.nn.one_hot(label, self.classes)[:, None, None]
        told = jnp.broadcast_to(told, (*image.shape[:-1], self.classes))
        return jnp.concatenate([image, told], axis=-1)


def sample(mean: Array, log_var: Array, keys: Key, index: Array) -> Array:
    """Draws codes from Gaussians without correlations.

    A draw follows from the example's key and its own number, so that many can be drawn in parts.

    Args:
      mean: [B, Z].
      log_var: [B, Z].
      keys: [B].
      index: [S], the numbers of the draws.

    Returns:
      [B, S, Z].
    """

    def noise(key: Key, number: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, number), mean.shape[-1:])

    drawn = jax.vmap(jax.vmap(noise, (None, 0)), (0, None))(keys, index)  # [B, S, Z]
    return mean[:, None] + jnp.exp(log_var / 2)[:, None] * drawn
