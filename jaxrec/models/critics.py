"""From an image to one number, how real it looks: the networks that discriminators are.

Each is called as `critic(image, label, train=...)`. Told the class, a critic adds the product of its features with a
learned vector of the class to the number (Miyato and Koyama, 2018, the projection discriminator).
"""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxrec import layers
from jaxrec.models.blocks import ACTIVATIONS, batch_norm, dense_layers, something_left
from jaxrec.types import Array, Count, Widths


class DenseCritic(nn.Module):
    """Dense layers on the image as one vector.

    Attributes:
      classes: number of classes K; None: unconditional.
      widths: of the hidden layers.
      activation: after each of them.
      dtype: of the computation; parameters and logits stay float32.
    """

    classes: Count | None = None
    widths: Widths = (512, 256)
    activation: Literal["relu", "tanh", "sigmoid", "gelu", "leaky_relu"] = "leaky_relu"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, label: Array | None = None, *, train: bool) -> Array:
        """Maps images [B, H, W, C], and labels [B] where there are classes, to logits [B]."""
        del train
        x = dense_layers(image.reshape(image.shape[0], -1), self.widths, self.activation, dtype=self.dtype)
        return _judge(x, label, self.classes)


class ConvCritic(nn.Module):
    """Convolutions of stride 2 and dense layers, each with a leaky relu of slope 0.2, then the logit.

    The discriminator of DCGAN (Radford et al., 2016) with norm = "batch", whose statistics are those of a batch of real
    or of generated images. A gradient penalty asks for a norm within one example, or none (Gulrajani et al., 2017).
    Without `hidden` the logit is a sum over places, and no unit has seen more of the image than its convolutions reach.

    Attributes:
      classes: number of classes K; None: unconditional.
      widths: channels of each convolution.
      kernel: side of the square kernels.
      norm: after each convolution but the first: none, batch or layer (over all of an example).
      hidden: widths of the dense layers before the logit.
      dtype: of the computation; parameters, norms and logits stay float32.
    """

    classes: Count | None = None
    widths: Widths = (64, 128)
    kernel: Count = 4
    norm: Literal["none", "batch", "layer"] = "none"
    hidden: Widths = ()
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, label: Array | None = None, *, train: bool) -> Array:
        """Maps images [B, H, W, C], and labels [B], to logits [B]; `train` switches batch statistics on."""
        x = image.astype(self.dtype)
        for index, width in enumerate(self.widths):
            norm = self.norm if index else "none"
            kernel = (self.kernel, self.kernel)
            x = layers.Conv(width, kernel, strides=(2, 2), use_bias=norm == "none", dtype=self.dtype)(x)
            if norm == "batch":
                x = batch_norm(x, train=train, dtype=self.dtype)
            elif norm == "layer":
                x = nn.LayerNorm(reduction_axes=(1, 2, 3), dtype=jnp.float32)(x).astype(self.dtype)
            x = ACTIVATIONS["leaky_relu"](x)
        x = dense_layers(x.reshape(x.shape[0], -1), self.hidden, "leaky_relu", dtype=self.dtype)
        return _judge(x, label, self.classes)


class ResNetCritic(nn.Module):
    """Residual blocks, the first of which halve the sides, then the sum over what is left of the image.

    The discriminator of SN-GAN (Miyato et al., 2018, table 4b) on 32x32 with the defaults and spectral normalisation.

    Attributes:
      classes: number of classes K; None: unconditional.
      width: channels of every block.
      halving: how many blocks halve the sides.
      level: how many blocks after these do not.
      dtype: of the computation; parameters and logits stay float32.
    """

    classes: Count | None = None
    width: Count = 128
    halving: Count = 2
    level: Count = 2
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, label: Array | None = None, *, train: bool) -> Array:
        """Maps images [B, H, W, C], and labels [B] where there are classes, to logits [B].

        Raises:
          InputError: the blocks leave nothing of the image.
        """
        del train
        x = image.astype(self.dtype)
        for index in range(self.halving + self.level):
            halves = index < self.halving
            # What is 1x1 commutes with the mean of each square: the same function on a quarter of the pixels.
            shortcut = self._conv(_halve(x), kernel=1) if halves else x
            x = x if index == 0 else nn.relu(x)  # an image is none of the network's own features
            x = self._conv(nn.relu(self._conv(x)))
            x = (_halve(x) if halves else x) + shortcut
            x = something_left(x, image, f"ResNetCritic halving = {self.halving}", "Let fewer blocks halve it.")
        return _judge(nn.relu(x).sum((1, 2)), label, self.classes)

    def _conv(self, x: Array, *, kernel: int = 3) -> Array:
        return layers.Conv(self.width, (kernel, kernel), dtype=self.dtype)(x)


def _halve(x: Array) -> Array:
    return layers.avg_pool(x, (2, 2), strides=(2, 2))


def _judge(features: Array, label: Array | None, classes: int | None) -> Array:
    """The logit [B] of features [B, D], in float32; with the projection of the class where there are classes."""
    features = features.astype(jnp.float32)
    logit = nn.Dense(1)(features).squeeze(-1)
    if classes:
        logit += jnp.sum(nn.Embed(classes, features.shape[-1])(label) * features, axis=-1)
    return logit
