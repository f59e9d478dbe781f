"""What a network that reads an image row by row has made of it on the way."""

import jax.numpy as jnp

from jaxrec.explain.gradients import Apply
from jaxrec.types import Array


def row_by_row(apply: Apply, image: Array) -> Array:
    """The logits after each row, [B, H, K]: what the network would answer if the image ended there.

    Args:
      apply: images [B, h, W, C] of any number h of rows -> logits [B, K], as a recurrent network is. Each number is a
        program of its own.
      image: [B, H, W, C].
    """
    return jnp.stack([apply(image[:, :rows]) for rows in range(1, image.shape[1] + 1)], axis=1)
