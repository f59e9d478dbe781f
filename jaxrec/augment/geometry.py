"""Where the pixels of an image go: crops, flips, translations, rotations, zooms."""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxrec.errors import InputError
from jaxrec.types import Array, Count, Key, NonNegative, Positive, Rate, Share

# What lies beyond the edge; "reflect" does not repeat the edge itself. What a config can set spells it out, since
# signatures are read as text.
Outside = Literal["zeros", "reflect"]


def random_crop(image: Array, key: Key, *, padding: Count = 4, mode: Literal["zeros", "reflect"] = "zeros") -> Array:
    """Pads the image on all sides and cuts a part of its own size out of that, at a place drawn uniformly.

    Args:
      image: [H, W, C].
      key: of the place.
      padding: pixels on each side; 4 is what ResNets on CIFAR use (He et al. 2016, section 4.2).
      mode: what the padding holds.
    """
    return _shifted(image, key, padding, padding, mode)


def random_translation(
    image: Array, key: Key, *, share: Rate = 0.1, mode: Literal["zeros", "reflect"] = "zeros"
) -> Array:
    """Moves the image by whole pixels, which keeps it sharp, by up to a share of its height and of its width.

    Args:
      image: [H, W, C].
      key: of the distances, drawn uniformly.
      share: the longest way; rounded to whole pixels.
      mode: what comes in from outside.
    """
    return _shifted(image, key, round(share * image.shape[0]), round(share * image.shape[1]), mode)


def random_flip(image: Array, key: Key, *, probability: Share = 0.5) -> Array:
    """Swaps left and right, with a probability."""
    # By index, since reversing and choosing takes four times as long in the loop over steps on a CPU.
    column = jnp.arange(image.shape[1])
    flip = jax.random.bernoulli(key, probability)
    return jnp.take(image, jnp.where(flip, column[::-1], column), axis=1, mode="clip")


def random_rotation(
    image: Array, key: Key, *, degrees: NonNegative = 15.0, mode: Literal["zeros", "reflect"] = "zeros"
) -> Array:
    """Turns the image about its centre, by an angle drawn uniformly from both directions; bilinear.

    Args:
      image: [H, W, C].
      key: of the angle.
      degrees: the largest angle, to either side.
      mode: what comes in at the corners.
    """
    angle = jnp.deg2rad(jax.random.uniform(key, (), minval=-degrees, maxval=degrees))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return affine(image, ((cos, -sin), (sin, cos)), mode=mode)


def random_zoom(
    image: Array,
    key: Key,
    *,
    low: Positive = 0.8,
    high: Positive = 1.2,
    mode: Literal["zeros", "reflect"] = "zeros",
) -> Array:
    """Enlarges the image about its centre, by a factor drawn uniformly, the same for height and width; bilinear.

    Args:
      image: [H, W, C].
      key: of the factor.
      low: the smallest factor; below 1 the image shrinks.
      high: the largest factor.
      mode: what comes in around an image that shrinks.

    Raises:
      InputError: `low` is above `high`.
    """
    if low > high:
        raise InputError(f"random_zoom: low = {low} is above high = {high}. Swap them.")
    step = 1 / jax.random.uniform(key, (), minval=low, maxval=high)
    return affine(image, ((step, 0.0), (0.0, step)), mode=mode)


def affine(
    image: Array,
    matrix: tuple[tuple[Array | float, Array | float], tuple[Array | float, Array | float]],
    shift: tuple[Array | float, Array | float] = (0.0, 0.0),
    *,
    mode: Outside = "zeros",
) -> Array:
    """Samples the image at an affine map of its own grid, bilinearly.

    Each output pixel p, counted from the centre as (row, column), takes the value at `matrix` p + `shift`. dm-pix has
    this for volumes: it mixes eight neighbours in three dimensions and takes 80 times as long for a batch of CIFAR-10
    on a CPU; and it multiplies indices as matrices, which GPUs round to ten bits.

    Args:
      image: [H, W, C].
      matrix: of (row, column).
      shift: of (row, column), in pixels.
      mode: what lies beyond the edge. Zeros begin one pixel outside, so that the edge fades out.
    """
    height, width, channels = image.shape
    down, right = (jnp.arange(size) - (size - 1) / 2 for size in (height, width))
    down, right = jnp.broadcast_to(down[:, None], (height, width)), jnp.broadcast_to(right[None, :], (height, width))
    rows, columns = (
        a * down + b * right + offset + (size - 1) / 2
        for (a, b), offset, size in zip(matrix, shift, (height, width), strict=True)
    )
    # What lies outside is one black pixel more. Joined to the image it also keeps XLA from computing whatever made the
    # image anew for each of the four neighbours.
    outside = height * width
    pixels = jnp.concatenate([image.reshape(outside, channels), jnp.zeros((1, channels), image.dtype)])
    result = jnp.zeros_like(image)
    for row, row_share in _neighbours(rows):
        for column, column_share in _neighbours(columns):
            index = _within(row, height, mode) * width + _within(column, width, mode)
            if mode == "zeros":
                inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
                index = jnp.where(inside, index, outside)
            result += jnp.take(pixels, index, axis=0, mode="clip") * (row_share * column_share)[:, :, None]
    return jnp.clip(result, 0, 1)  # the four shares add up to 1 but for rounding


def _shifted(image: Array, key: Key, down: int, right: int, mode: Outside) -> Array:
    """The image moved by up to `down` and `right` whole pixels, drawn uniformly from both directions."""
    # By index: on a CPU as fast as cutting a part out of the padded image, three times as fast where the padding is a
    # reflection, ten times as fast as products with 0-1 matrices. dm-pix cuts, with one draw for each dimension.
    height, width, _ = image.shape
    start = jax.random.randint(key, (2,), 0, jnp.array([2 * down + 1, 2 * right + 1]))
    row, column = jnp.arange(height) + start[0] - down, jnp.arange(width) + start[1] - right
    result = jnp.take(image, _within(row, height, mode), axis=0, mode="clip")
    result = jnp.take(result, _within(column, width, mode), axis=1, mode="clip")
    if mode == "reflect":
        return result
    inside = ((row >= 0) & (row < height))[:, None, None] & ((column >= 0) & (column < width))[None, :, None]
    return jnp.where(inside, result, 0)


def _neighbours(position: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The whole numbers below and above each position, and the share that each has in a linear mix."""
    below = jnp.floor(position)
    above_share = position - below
    index = below.astype(jnp.int32)
    return (index, 1 - above_share), (index + 1, above_share)


def _within(index: Array, size: int, mode: Outside) -> Array:
    """The index of a pixel of the image for each index on the endless grid."""
    if mode == "zeros" or size == 1:
        return jnp.clip(index, 0, size - 1)
    period = 2 * (size - 1)  # there and back
    index = index % period
    return jnp.minimum(index, period - index)
