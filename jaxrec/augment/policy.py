"""Changes drawn from a list: RandAugment."""

import math

import dm_pix
import jax
import jax.numpy as jnp

from jaxrec.augment.geometry import Example, affine, image_of, with_image
from jaxrec.errors import InputError
from jaxrec.types import Array, Count, Key, NonNegative

LARGEST = 10  # magnitude


def rand_augment(example: Example, key: Key, *, operations: Count = 2, magnitude: NonNegative = 9.0) -> Example:
    """Applies some of fourteen operations, drawn uniformly and with repetition, all of one magnitude.

    Cubuk et al. 2020, "RandAugment: Practical automated data augmentation with a reduced search space". The fourteen:
    identity, auto-contrast, equalise, solarise, posterise, colour, contrast, brightness, sharpness, rotate, shear and
    translate along both axes. At magnitude 0 all but auto-contrast and equalise, which have none, leave an 8-bit image
    as it is; at 10 it is solarised above 0, cut to 4 bits, enhanced by a factor of 0.1 or 1.9, turned by 30 degrees,
    sheared by 0.3 or moved by 0.45 of its size. Directions are drawn, and black comes in from outside.

    In a compiled batch every operation is computed for every image and one is kept, so this costs as much as all.

    Args:
      example: an image [H, W, C], or a dictionary of `jaxrec.augment.geometry` whose mask and boxes go where the last
        five move the image; C = 1 or 3; colour leaves grey images alone.
      key: of operations and directions.
      operations: how many, one after the other; N in the paper.
      magnitude: from 0 to 10; M in the paper.

    Raises:
      InputError: another number of channels, or a magnitude above 10.
    """
    height, width, channels = image_of(example).shape
    if channels not in (1, 3):
        raise InputError(f"rand_augment: allowed are images of 1 or 3 channels, these have {channels}.")
    if magnitude > LARGEST:
        raise InputError(f"rand_augment: magnitude = {magnitude}: allowed is a number from 0 to {LARGEST}.")
    level = jnp.float32(magnitude / LARGEST)

    def one(example: Example, key: Key) -> tuple[Example, None]:
        which, direction = jax.random.split(key)
        signed = level * jax.random.rademacher(direction, (), jnp.float32)
        # The first of both lists does nothing: one counts, and the other is at its first then, or both are.
        index = jax.random.randint(which, (), 0, len(LOOKS) + len(MOVES) - 1)
        look = jnp.where(index < len(LOOKS), index, 0)
        move = jnp.where(index < len(LOOKS), 0, index - len(LOOKS) + 1)
        image = jax.lax.switch(look, LOOKS, image_of(example), level, signed)
        # The switch is one of six numbers, so that pixels are gathered once and not once for each move.
        down, right, shift = jax.lax.switch(move, MOVES, signed, float(height), float(width))
        return affine(with_image(example, image), (down, right), shift), None

    # A scan, since XLA would compute the image of one operation anew for each use in the next.
    return jax.lax.scan(one, example, jax.random.split(key, operations))[0]


def identity(image: Array, level: Array, signed: Array) -> Array:
    """The image as it is."""
    del level, signed
    return image


def auto_contrast(image: Array, level: Array, signed: Array) -> Array:
    """Each channel stretched to reach from 0 to 1."""
    del level, signed
    low, high = image.min((0, 1), keepdims=True), image.max((0, 1), keepdims=True)
    return jnp.where(high > low, (image - low) / jnp.where(high > low, high - low, 1), image)


def equalise(image: Array, level: Array, signed: Array) -> Array:
    """Each channel's values spread so that all of 256 are about equally frequent; images of few pixels stay."""
    del level, signed
    height, width, channels = image.shape
    values = jnp.round(image * 255).astype(jnp.int32).reshape(height * width, channels)
    frequency = jnp.zeros((256, channels), jnp.int32).at[values, jnp.arange(channels)[None, :]].add(1)
    last = jnp.take_along_axis(frequency, values.max(0, keepdims=True), axis=0)  # [1, C]
    step = (height * width - last) // 255
    before = jnp.cumsum(frequency, axis=0) - frequency
    table = jnp.minimum((step // 2 + before) // jnp.maximum(step, 1), 255)  # [256, C]
    spread = jnp.take_along_axis(table, values, axis=0) / 255
    return jnp.where(step > 0, spread, image.reshape(height * width, channels)).reshape(image.shape)


def solarise(image: Array, level: Array, signed: Array) -> Array:
    """Values above a threshold, which falls from beyond white to black, turned to their negative."""
    del signed
    return dm_pix.solarize(image, 256 / 255 * (1 - level))


def posterise(image: Array, level: Array, signed: Array) -> Array:
    """Values cut to their 8 to 4 highest bits."""
    del signed
    step = jnp.left_shift(1, jnp.round(4 * level).astype(jnp.int32))
    return (jnp.round(image * 255).astype(jnp.int32) // step * step) / 255


def color(image: Array, level: Array, signed: Array) -> Array:
    """Between the grey image and one of stronger colours."""
    del level
    return _away_from(_grey(image), image, signed)


def contrast(image: Array, level: Array, signed: Array) -> Array:
    """Between an even grey, the image's mean, and one of stronger contrast."""
    del level
    return _away_from(_grey(image).mean(keepdims=True), image, signed)


def brightness(image: Array, level: Array, signed: Array) -> Array:
    """Between black and a brighter image."""
    del level
    return _away_from(jnp.zeros_like(image), image, signed)


def sharpness(image: Array, level: Array, signed: Array) -> Array:
    """Between a smoothed image and a sharper one; the outermost pixels stay."""
    del level
    height, width, _ = image.shape
    if min(height, width) < 3:
        return image
    rows = image[:-2] + image[1:-1] + image[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]  # nine pixels, the sum of
    smooth = (around + 4 * image[1:-1, 1:-1]) / 13
    return _away_from(image.at[1:-1, 1:-1].set(smooth), image, signed)


# The two rows of the matrix from output to input, and the shift, for (row, column) from the centre.
Affine = tuple[
    tuple[Array | float, Array | float], tuple[Array | float, Array | float], tuple[Array | float, Array | float]
]


def stay(signed: Array, height: Array, width: Array) -> Affine:
    """No move."""
    del signed, height, width
    return (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)


def rotate(signed: Array, height: Array, width: Array) -> Affine:
    """Turned about the centre by up to 30 degrees."""
    del height, width
    cos, sin = jnp.cos(signed * math.radians(30)), jnp.sin(signed * math.radians(30))
    return (cos, -sin), (sin, cos), (0.0, 0.0)


def shear_x(signed: Array, height: Array, width: Array) -> Affine:
    """Rows moved along themselves, by up to 0.3 of their distance from the centre."""
    del height, width
    return (1.0, 0.0), (0.3 * signed, 1.0), (0.0, 0.0)


def shear_y(signed: Array, height: Array, width: Array) -> Affine:
    """Columns moved along themselves, by up to 0.3 of their distance from the centre."""
    del height, width
    return (1.0, 0.3 * signed), (0.0, 1.0), (0.0, 0.0)


def translate_x(signed: Array, height: Array, width: Array) -> Affine:
    """Moved by up to 0.45 of the width."""
    del height
    return (1.0, 0.0), (0.0, 1.0), (0.0, 0.45 * signed * width)


def translate_y(signed: Array, height: Array, width: Array) -> Affine:
    """Moved by up to 0.45 of the height."""
    del width
    return (1.0, 0.0), (0.0, 1.0), (0.45 * signed * height, 0.0)


LOOKS = (identity, auto_contrast, equalise, solarise, posterise, color, contrast, brightness, sharpness)
MOVES = (stay, rotate, shear_x, shear_y, translate_x, translate_y)


def _away_from(degenerate: Array, image: Array, signed: Array) -> Array:
    """The image mixed with a degenerate one, by a factor from 0.1 to 1.9: below 1 towards it, above away from it."""
    return jnp.clip(image + 0.9 * signed * (image - degenerate), 0, 1)


def _grey(image: Array) -> Array:
    return dm_pix.rgb_to_grayscale(image) if image.shape[-1] == 3 else image
