"""Random changes of single images that leave what they show as it is: image [H, W, C] and key -> image [H, W, C].

Each function takes float32 images in [0, 1] and returns such images of the same shape. It is written for one example
and one key; `jax.vmap` makes it one of a batch, inside the compiled step. The randomness is all in the key.

A function whose first argument is called `example` moves pixels: given a dictionary, it moves a segmentation mask and
boxes with them (`geometry`). One whose first argument is called `image` changes the image alone.

The names here are those that a config may use. Where both occur, colours before rotation or zoom take a third of the
time of the other order on a CPU: XLA samples the image anew for each use that an operation makes of it.
"""

from jaxrec.augment.color import color_jitter
from jaxrec.augment.geometry import random_crop, random_flip, random_rotation, random_translation, random_zoom
from jaxrec.augment.noise import binarise, cutout, gaussian_noise, masking, random_erasing, salt_and_pepper
from jaxrec.augment.policy import rand_augment

__all__ = [
    "binarise",
    "color_jitter",
    "cutout",
    "gaussian_noise",
    "masking",
    "rand_augment",
    "random_crop",
    "random_erasing",
    "random_flip",
    "random_rotation",
    "random_translation",
    "random_zoom",
    "salt_and_pepper",
]
