"""From noise to an image: a decoder, told the class or not."""

import jax.numpy as jnp
from flax import linen as nn

from jaxrec.types import Array, Count


class Generator(nn.Module):
    """Makes an image of noise by a decoder; of noise and a class, whose learned vector is appended to the noise.

    Attributes:
      decoder: code [B, Z'] -> pixels [B, H, W, C] without bounds.
      classes: number of classes K; None: unconditional.
    """

    decoder: nn.Module
    classes: Count | None = None

    @nn.compact
    def __call__(self, noise: Array, label: Array | None = None, *, train: bool) -> Array:
        """Maps noise [B, Z], and labels [B] where there are classes, to images [B, H, W, C] in [-1, 1]."""
        code = noise
        if self.classes:
            code = jnp.concatenate([noise, nn.Embed(self.classes, noise.shape[-1])(label)], axis=-1)  # [B, 2 Z]
        return jnp.tanh(self.decoder(code, train=train))
