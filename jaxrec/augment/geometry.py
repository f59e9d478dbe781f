"""Where the pixels of an image go, and what lies on them with them: crops, flips, translations, rotations, zooms.

An example is an image [H, W, C], or a dictionary of arrays with what lies on it, all of which is moved by one draw:

  "image" [H, W, C]: float32 in [0, 1].
  "segmentation_mask" [H, W] or [H, W, 1]: integers, the class of each pixel. Taken from the nearest pixel, so classes
    are never blended; 0 where nothing comes in from outside.
  "boxes" [M, 4]: floats (ymin, xmin, ymax, xmax), in [0, 1] of height and width, as TFDS has them; a row of zeros, or
    any empty box, stands for no box. A box becomes the one around its moved corners, cut off at the edge of the image,
    and zeros if nothing is left. What a reflection shows a second time has pixels and classes, and no second box.

A function of one's own says by the name of its first argument what it is given: `image`, the image alone, or `example`,
the dictionary. `affine` and `moved` make one that moves everything:

  def random_shear(example, key, *, amount=0.2):
      slope = jax.random.uniform(key, (), minval=-amount, maxval=amount)
      return affine(example, ((1.0, 0.0), (slope, 1.0)))
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrec.errors import InputError
from jaxrec.types import Array, Count, Key, NonNegative, Positive, Rate, Share

# What lies beyond the edge; "reflect" does not repeat the edge itself. What a config can set spells it out, since
# signatures are read as text.
Outside = Literal["zeros", "reflect"]

Example = Array | dict[str, Array]  # an image, or a dictionary with what lies on it

ON_IMAGE = ("segmentation_mask", "boxes")  # "mask" says which rows of a batch are padding

LEAST = 0.01  # pixels, of a box's height and width; less is what rounding leaves of a box outside

# Part of the key of jit's cache: what was traced with nothing left behind is not reused where something is.
_left_behind = jax.make_user_context(default_value=())


class Move(NamedTuple):
    """Where things go, as three functions that describe one map.

    Attributes:
      pixels: image [H, W, C] -> the moved image.
      classes: mask [H, W, 1], integers -> the moved mask, each value one of before.
      points: (row, column), arrays of one shape -> where these places of the image before lie in the image after. In
        pixels from the upper left corner, so that the centre of the first pixel is (0.5, 0.5).
    """

    pixels: Callable[[Array], Array]
    classes: Callable[[Array], Array]
    points: Callable[[Array, Array], tuple[Array, Array]]


def moved(example: Example, move: Move) -> Example:
    """The example after a move: an image, or a dictionary whose image, segmentation mask and boxes went together.

    Raises:
      InputError: a mask or boxes of another form than described above; or an image whose mask or boxes stay behind, as
        the function that moves it asked for the image alone.
    """
    image = image_of(example)
    if not isinstance(example, dict):
        if _left_behind.value:
            raise InputError(
                f"A function that takes an image alone moves its pixels, and leaves {' and '.join(_left_behind.value)} "
                "where they are: call its first argument `example`, and it is given all of them."
            )
        return move.pixels(image)
    result = with_image(example, move.pixels(image))
    if "segmentation_mask" in example:
        result["segmentation_mask"] = _moved_classes(example["segmentation_mask"], move, image.shape)
    if "boxes" in example:
        result["boxes"] = _moved_boxes(example["boxes"], move, image.shape, result["image"].shape)
    return result


def image_of(example: Example) -> Array:
    """The image [H, W, C] of an example."""
    return example["image"] if isinstance(example, dict) else example


def with_image(example: Example, image: Array) -> Example:
    """The example with another image."""
    return {**example, "image": image} if isinstance(example, dict) else image


def left_behind(names: Sequence[str]) -> AbstractContextManager[None]:
    """Returns a context in which `moved` refuses an image alone: these things lie on it and would stay behind."""
    return _left_behind(tuple(names))


def random_crop(
    example: Example, key: Key, *, padding: Count = 4, mode: Literal["zeros", "reflect"] = "zeros"
) -> Example:
    """Pads the image on all sides and cuts a part of its own size out of that, at a place drawn uniformly.

    Args:
      example: an image [H, W, C], or a dictionary.
      key: of the place.
      padding: pixels on each side; 4 is what ResNets on CIFAR use (He et al. 2016, section 4.2).
      mode: what the padding holds.
    """
    return _shifted(example, key, padding, padding, mode)


def random_translation(
    example: Example, key: Key, *, share: Rate = 0.1, mode: Literal["zeros", "reflect"] = "zeros"
) -> Example:
    """Moves the image by whole pixels, which keeps it sharp, by up to a share of its height and of its width.

    Args:
      example: an image [H, W, C], or a dictionary.
      key: of the distances, drawn uniformly.
      share: the longest way; rounded to whole pixels.
      mode: what comes in from outside.
    """
    height, width, _ = image_of(example).shape
    return _shifted(example, key, round(share * height), round(share * width), mode)


def random_flip(example: Example, key: Key, *, probability: Share = 0.5) -> Example:
    """Swaps left and right, with a probability.

    Args:
      example: an image [H, W, C], or a dictionary.
      key: of whether it does.
      probability: that it does.
    """
    # By index, since reversing and choosing takes four times as long in the loop over steps on a CPU.
    width = image_of(example).shape[1]
    column = jnp.arange(width)
    flip = jax.random.bernoulli(key, probability)
    source = jnp.where(flip, column[::-1], column)

    def pixels(image: Array) -> Array:
        return jnp.take(image, source, axis=1, mode="clip")

    return moved(example, Move(pixels, pixels, lambda row, column: (row, jnp.where(flip, width - column, column))))


def mirrored(example: Example) -> Example:
    """The example with left and right swapped."""
    width = image_of(example).shape[1]

    def pixels(image: Array) -> Array:
        return image[:, ::-1]

    return moved(example, Move(pixels, pixels, lambda row, column: (row, width - column)))


def random_rotation(
    example: Example, key: Key, *, degrees: NonNegative = 15.0, mode: Literal["zeros", "reflect"] = "zeros"
) -> Example:
    """Turns the image about its centre, by an angle drawn uniformly from both directions; bilinear.

    Args:
      example: an image [H, W, C], or a dictionary.
      key: of the angle.
      degrees: the largest angle, to either side.
      mode: what comes in at the corners.
    """
    angle = jnp.deg2rad(jax.random.uniform(key, (), minval=-degrees, maxval=degrees))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return affine(example, ((cos, -sin), (sin, cos)), mode=mode)


def random_zoom(
    example: Example,
    key: Key,
    *,
    low: Positive = 0.8,
    high: Positive = 1.2,
    mode: Literal["zeros", "reflect"] = "zeros",
) -> Example:
    """Enlarges the image about its centre, by a factor drawn uniformly, the same for height and width; bilinear.

    Args:
      example: an image [H, W, C], or a dictionary.
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
    return affine(example, ((step, 0.0), (0.0, step)), mode=mode)


def affine(
    example: Example,
    matrix: tuple[tuple[Array | float, Array | float], tuple[Array | float, Array | float]],
    shift: tuple[Array | float, Array | float] = (0.0, 0.0),
    *,
    mode: Outside = "zeros",
) -> Example:
    """Samples the example at an affine map of its own grid: the image bilinearly, the mask at the nearest pixel.

    Each output pixel p, counted from the centre as (row, column), takes the value at `matrix` p + `shift`. dm-pix has
    this for volumes: it mixes eight neighbours in three dimensions and takes 80 times as long for a batch of CIFAR-10
    on a CPU; and it multiplies indices as matrices, which GPUs round to ten bits.

    Args:
      example: an image [H, W, C], or a dictionary.
      matrix: of (row, column); boxes go by its inverse.
      shift: of (row, column), in pixels.
      mode: what lies beyond the edge. Zeros begin one pixel outside, so that the edge fades out.
    """
    height, width, _ = image_of(example).shape
    down, right = (jnp.arange(size) - (size - 1) / 2 for size in (height, width))
    down, right = jnp.broadcast_to(down[:, None], (height, width)), jnp.broadcast_to(right[None, :], (height, width))
    rows, columns = (
        a * down + b * right + offset + (size - 1) / 2
        for (a, b), offset, size in zip(matrix, shift, (height, width), strict=True)
    )
    # What lies outside is one black pixel more. Joined to the image it also keeps XLA from computing whatever made the
    # image anew for each of the four neighbours.
    outside = height * width

    def gathered(pixels: Array, row: Array, column: Array) -> Array:
        index = _within(row, height, mode) * width + _within(column, width, mode)
        if mode == "zeros":
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = jnp.where(inside, index, outside)
        return jnp.take(pixels, index, axis=0, mode="clip")

    def flat(image: Array) -> Array:
        channels = image.shape[-1]
        return jnp.concatenate([image.reshape(outside, channels), jnp.zeros((1, channels), image.dtype)])

    def pixels(image: Array) -> Array:
        flattened, result = flat(image), jnp.zeros_like(image)
        for row, row_share in _neighbours(rows):
            for column, column_share in _neighbours(columns):
                result += gathered(flattened, row, column) * (row_share * column_share)[:, :, None]
        return jnp.clip(result, 0, 1)  # the four shares add up to 1 but for rounding

    def classes(mask: Array) -> Array:
        return gathered(flat(mask), *(jnp.floor(place + 0.5).astype(jnp.int32) for place in (rows, columns)))

    def points(row: Array, column: Array) -> tuple[Array, Array]:
        # Products of numbers: a GPU would round those of matrices to ten bits.
        (a, b), (c, d) = matrix
        determinant = a * d - b * c
        row, column = row - height / 2 - shift[0], column - width / 2 - shift[1]
        return (d * row - b * column) / determinant + height / 2, (a * column - c * row) / determinant + width / 2

    return moved(example, Move(pixels, classes, points))


def _shifted(example: Example, key: Key, down: int, right: int, mode: Outside) -> Example:
    """The example moved by up to `down` and `right` whole pixels, drawn uniformly from both directions."""
    # By index: on a CPU as fast as cutting a part out of the padded image, three times as fast where the padding is a
    # reflection, ten times as fast as products with 0-1 matrices. dm-pix cuts, with one draw for each dimension.
    height, width, _ = image_of(example).shape
    start = jax.random.randint(key, (2,), 0, jnp.array([2 * down + 1, 2 * right + 1]))
    row, column = jnp.arange(height) + start[0] - down, jnp.arange(width) + start[1] - right

    def pixels(image: Array) -> Array:
        result = jnp.take(image, _within(row, height, mode), axis=0, mode="clip")
        result = jnp.take(result, _within(column, width, mode), axis=1, mode="clip")
        if mode == "reflect":
            return result
        inside = ((row >= 0) & (row < height))[:, None, None] & ((column >= 0) & (column < width))[None, :, None]
        return jnp.where(inside, result, 0)

    return moved(example, Move(pixels, pixels, lambda row, column: (row - start[0] + down, column - start[1] + right)))


def _moved_classes(mask: Array, move: Move, shape: tuple[int, int, int]) -> Array:
    """The mask [H, W] or [H, W, 1] of an image of this shape, after the move."""
    if mask.shape not in (shape[:2], (*shape[:2], 1)) or not jnp.issubdtype(mask.dtype, jnp.integer):
        raise InputError(
            f"segmentation_mask is {mask.dtype} {list(mask.shape)} on an image {list(shape)}: allowed are integers, "
            f"{list(shape[:2])} or {[*shape[:2], 1]}."
        )
    result = move.classes(mask.reshape(*shape[:2], 1))
    return result if mask.ndim == 3 else result[:, :, 0]


def _moved_boxes(boxes: Array, move: Move, before: tuple[int, int, int], after: tuple[int, int, int]) -> Array:
    """The boxes [M, 4] of an image of shape `before`, on the moved image of shape `after`."""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not jnp.issubdtype(boxes.dtype, jnp.floating):
        raise InputError(
            f"boxes of an image are {boxes.dtype} {list(boxes.shape)}: allowed are floats [M, 4], each row "
            "(ymin, xmin, ymax, xmax) as shares of height and width."
        )
    height, width, _ = after
    top, left, bottom, right = boxes.T
    full = (bottom > top) & (right > left)
    corners = [move.points(row * before[0], column * before[1]) for row in (top, bottom) for column in (left, right)]
    rows, columns = (jnp.stack(places) for places in zip(*corners, strict=True))  # [4, M]
    rows, columns = jnp.clip(rows, 0, height), jnp.clip(columns, 0, width)
    top, left, bottom, right = rows.min(0), columns.min(0), rows.max(0), columns.max(0)
    full &= (bottom - top > LEAST) & (right - left > LEAST)
    result = jnp.stack([top / height, left / width, bottom / height, right / width], axis=-1)
    return jnp.where(full[:, None], result, 0).astype(boxes.dtype)


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
