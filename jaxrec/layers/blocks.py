"""Moves blocks of pixels into channels and back."""

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


def depth_to_space(x: Array, block: int) -> Array:
    """Spreads channels over `block` x `block` squares, [B, H, W, block**2 * C] -> [B, H * block, W * block, C].

    The inverse of `space_to_depth`.

    Raises:
      ValueError: `block`**2 does not divide the channels.
    """
    b, h, w, c = x.shape
    if c % (block * block):
        raise ValueError(f"depth_to_space: blocks of {block} x {block} pixels do not divide {c} channels.")
    x = x.reshape(b, h, w, block, block, c // (block * block))
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * block, w * block, c // (block * block))
