"""What an evaluation shows a network of an image; it answers with the mean of its outputs (test-time augmentation)."""

import jax.numpy as jnp

from jaxrec.types import Array


def mirror(image: Array) -> list[Array]:
    """Images [B, H, W, C] and their mirror images."""
    return [image, image[:, :, ::-1]]


def mirror_and_shift(image: Array) -> list[Array]:
    """The images, and the images moved by one pixel up left and down right, each with its mirror image: six views."""
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    moved = padded[:, 2:, 2:], padded[:, :-2, :-2]
    return [view for shifted in (image, *moved) for view in mirror(shifted)]
