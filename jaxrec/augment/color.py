"""What the pixels of an image look like: brightness, contrast, saturation, hue."""

import dm_pix
import jax
import jax.numpy as jnp

from jaxrec.errors import InputError
from jaxrec.types import Array, Key, Rate


def color_jitter(
    image: Array,
    key: Key,
    *,
    brightness: Rate = 0.0,
    contrast: Rate = 0.0,
    saturation: Rate = 0.0,
    hue: Rate = 0.0,
) -> Array:
    """Changes brightness, contrast, saturation and hue, in this order, each by an amount drawn uniformly.

    What has strength 0 is left out of the program. Values that leave [0, 1] are cut off after each change.

    Args:
      image: [H, W, C]; saturation and hue need C = 3, red, green and blue.
      key: of the four amounts.
      brightness: b adds a number from [-b, b].
      contrast: c multiplies the distance from each channel's mean by a factor from [1 - c, 1 + c].
      saturation: s multiplies the saturation, that of hue, saturation and value, by a factor from [1 - s, 1 + s].
      hue: h turns the colour circle by a share of it from [-h, h]; 0.5 reaches every hue.

    Raises:
      InputError: saturation or hue of an image that has not three channels.
    """
    if (saturation or hue) and image.shape[-1] != 3:
        raise InputError(
            f"color_jitter: saturation and hue need red, green and blue, the image has {image.shape[-1]} channel(s). "
            "Set both to 0."
        )
    amounts = jax.random.uniform(key, (4,), minval=-1, maxval=1)
    if brightness:
        image = _unit(dm_pix.adjust_brightness(image, brightness * amounts[0]))
    if contrast:
        image = _unit(dm_pix.adjust_contrast(image, 1 + contrast * amounts[1]))
    if saturation:
        image = _unit(dm_pix.adjust_saturation(image, 1 + saturation * amounts[2]))
    if hue:
        image = _unit(dm_pix.adjust_hue(image, hue * amounts[3]))
    return image


def _unit(image: Array) -> Array:
    return jnp.clip(image, 0, 1)
