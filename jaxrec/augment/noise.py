"""What takes from an image: noise on its pixels, rectangles cut out of it, its grey values.

The image alone: what is covered keeps its class in a segmentation mask, and its box.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from jaxrec.errors import InputError
from jaxrec.types import Array, Count, Key, Positive, Rate, Share

TRIES = 10  # rectangles drawn until one fits; a single one fits in most cases


def gaussian_noise(image: Array, key: Key, *, std: Positive = 0.05) -> Array:
    """Adds noise of zero mean to each value, drawn on its own; cut off at 0 and 1.

    Args:
      image: [H, W, C].
      key: of the noise.
      std: its standard deviation, of images in [0, 1].
    """
    return jnp.clip(image + std * jax.random.normal(key, image.shape), 0, 1)


def salt_and_pepper(image: Array, key: Key, *, share: Rate = 0.05) -> Array:
    """Makes pixels white or black in all channels at once.

    Args:
      image: [H, W, C].
      key: of which pixels.
      share: of the pixels that are replaced, each drawn on its own; half of them black, half white.
    """
    draw = jax.random.uniform(key, (*image.shape[:2], 1))
    return jnp.where(draw < share, jnp.where(draw < share / 2, 0.0, 1.0), image)


def binarise(image: Array, key: Key) -> Array:
    """Makes each value 1 with its own probability, else 0: the image as a draw of what its grey values say.

    Salakhutdinov and Murray (2008). Drawn anew in each epoch, as in Burda et al. (2016), it is the dynamic binarisation
    of the tables of MNIST.

    Args:
      image: [H, W, C].
      key: of the draw.
    """
    return jax.random.bernoulli(key, image).astype(image.dtype)


def masking(image: Array, key: Key, *, share: Rate = 0.25) -> Array:
    """Makes pixels black in all channels at once, the masking noise of Vincent et al. (2010).

    Args:
      image: [H, W, C].
      key: of which pixels.
      share: of the pixels, each drawn on its own.
    """
    return jnp.where(jax.random.uniform(key, (*image.shape[:2], 1)) < share, 0.0, image)


def cutout(image: Array, key: Key, *, size: Count = 8, value: Share = 0.0) -> Array:
    """Covers a square whose centre is drawn uniformly from all pixels, so that parts of it may lie outside.

    DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout": size 16 on
    CIFAR-10, 8 on CIFAR-100.

    Args:
      image: [H, W, C].
      key: of the centre.
      size: side of the square, in pixels.
      value: what it is filled with.
    """
    height, width, _ = image.shape
    centre = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
    top, left = centre - size // 2
    return jnp.where(rectangle(height, width, top, left, size, size), value, image)


def random_erasing(
    image: Array,
    key: Key,
    *,
    probability: Share = 0.5,
    low: Positive = 0.02,
    high: Positive = 0.4,
    aspect: Positive = 0.3,
    fill: Literal["noise", "zeros"] = "noise",
) -> Array:
    """Covers a rectangle of random size, shape and place, with a probability.

    Zhong et al. 2020, "Random Erasing Data Augmentation", algorithm 1, with two differences: a rectangle that does not
    fit is drawn anew at most ten times, since a compiled step cannot go on for ever (then the image stays as it is),
    and the ratio of the sides is drawn uniformly on a logarithmic scale, so that tall and wide are equally likely.

    Args:
      image: [H, W, C].
      key: of everything drawn.
      probability: that anything is covered.
      low: the smallest area, as a share of the image.
      high: the largest area, as a share of the image.
      aspect: the smallest height / width of the rectangle; the largest is 1 / aspect.
      fill: evenly drawn values, one for each pixel and channel, or zeros.

    Raises:
      InputError: the areas or the ratio leave no rectangle to draw.
    """
    if not (0 < low <= high <= 1 and 0 < aspect <= 1):
        raise InputError(
            f"random_erasing: low = {low}, high = {high}, aspect = {aspect}: allowed is 0 < low <= high <= 1 and "
            "0 < aspect <= 1."
        )
    height, width, _ = image.shape
    numbers, noise = jax.random.split(key)
    # One draw for everything: each costs a second of compilation.
    draw = jax.random.uniform(numbers, (2 * TRIES + 3,))
    area = (low + (high - low) * draw[:TRIES]) * (height * width)
    ratio = jnp.exp((2 * draw[TRIES : 2 * TRIES] - 1) * math.log(aspect))
    apply, down, right = draw[2 * TRIES :]
    rows = jnp.round(jnp.sqrt(area * ratio)).astype(jnp.int32)
    columns = jnp.round(jnp.sqrt(area / ratio)).astype(jnp.int32)
    fits = (rows >= 1) & (rows <= height) & (columns >= 1) & (columns <= width)
    first = jnp.argmax(fits)
    rows, columns = rows[first], columns[first]
    # Evenly over the places where it lies inside.
    top = (down * (height - rows + 1)).astype(jnp.int32)
    left = (right * (width - columns + 1)).astype(jnp.int32)
    covered = rectangle(height, width, top, left, rows, columns) & fits[first] & (apply < probability)
    return jnp.where(covered, jax.random.uniform(noise, image.shape) if fill == "noise" else 0.0, image)


def rectangle(height: int, width: int, top: Array, left: Array, rows: Array | int, columns: Array | int) -> Array:
    """Which pixels [H, W, 1] of an image lie in the rectangle that begins at (top, left); it may reach outside."""
    row, column = jnp.arange(height)[:, None, None], jnp.arange(width)[None, :, None]
    return (row >= top) & (row < top + rows) & (column >= left) & (column < left + columns)
