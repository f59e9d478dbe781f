"""Moves blocks of pixels into channels."""

from jaxrec.types import Array


def space_to_depth(x: Array, block: int) -> Array:
    """Moves each `block` x `block` square into channels, [B, H, W, C] -> [B, H / block, W / block, block**2 * C].

    The new channels are in row order: all C of the top left pixel, then all C of its right neighbour, and so on, as in
    TensorFlow (Shi et al., 2016, call the inverse "pixel shuffle", and PyTorch puts C first).

    Raises:
      ValueError: `block` does not divide H and W.
    """
    b, h, w, c = x.shape
    if h % block or w % block:
        raise ValueError(f"space_to_depth: blocks of {block} pixels do not divide an image of {h} x {w}.")
    x = x.reshape(b, h // block, block, w // block, block, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // block, w // block, block * block * c)
