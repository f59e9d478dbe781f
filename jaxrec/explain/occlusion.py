"""Maps by what an answer loses when a part of the image is covered."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.errors import InputError
from jaxrec.explain.gradients import Apply, logits_of
from jaxrec.types import Array, Count


def occlusion(
    apply: Apply, image: Array, target: Array, baseline: Array, *, size: Count, stride: Count | None = None
) -> Array:
    """How much the target logit falls when a square is covered, [B, H, W]: the mean over the squares on a pixel.

    Zeiler and Fergus (2014). Negative where the logit rises.

    Args:
      apply: images [B, H, W, C] -> logits [B, K].
      image: [B, H, W, C].
      target: the class that is explained, [B].
      baseline: what covers, of a shape that broadcasts, [1, 1, 1, C] for a colour.
      size: side of the square, in pixels.
      stride: from one square to the next; half a side by default. The last ones end at the image's edge.

    Raises:
      InputError: the square is larger than the image.
    """
    height, width = image.shape[1:3]
    if size > min(height, width):
        raise InputError(f"occlusion size = {size}: more than an image of {height}x{width} pixels. Use a smaller one.")
    stride = stride or max(1, size // 2)
    rows, columns = (np.unique([*range(0, side - size, stride), side - size]) for side in (height, width))
    corners = jnp.asarray([(row, column) for row in rows for column in columns])  # [squares, 2]
    whole = logits_of(apply(image), target)

    def add(total: tuple[Array, Array], corner: Array) -> tuple[tuple[Array, Array], None]:
        y, x = (jnp.arange(side) - start for side, start in zip((height, width), corner, strict=True))
        covered = ((y >= 0) & (y < size))[:, None] & ((x >= 0) & (x < size))[None]  # [H, W]
        left = logits_of(apply(jnp.where(covered[None, ..., None], baseline, image)), target)
        fall, count = total
        return (fall + (whole - left)[:, None, None] * covered[None], count + covered), None

    start = jnp.zeros(image.shape[:3]), jnp.zeros((height, width))
    (fall, count), _ = jax.lax.scan(add, start, corners)
    return fall / count[None]
