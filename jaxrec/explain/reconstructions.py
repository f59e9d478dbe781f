"""What a network that makes images again got wrong."""

from collections.abc import Callable

import jax.numpy as jnp

from jaxrec.types import Array


def squared_errors(reconstruct: Callable[[Array], Array], image: Array) -> Array:
    """The squared error of each pixel, [B, H, W], added up over the channels.

    Args:
      reconstruct: images [B, H, W, C] -> the same images again, as an autoencoder makes them.
      image: [B, H, W, C].
    """
    return jnp.square(reconstruct(image) - image).sum(-1)
