"""Pooling. The gradient of the maximum is what XLA compiles badly on a CPU."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrec.layers.platform import on_cpu
from jaxrec.types import Array

# XLA's own mean is as fast as anything else that was measured, in both directions.
avg_pool = nn.avg_pool


def max_pool(
    inputs: Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str | Sequence[tuple[int, int]] = "VALID",
) -> Array:
    """Takes the maximum over each window, as `flax.linen.max_pool` does, in values and gradients.

    Where several pixels of a window tie, the gradient goes to the first in row order alone.

    Args:
      inputs: [..., H, W, C].
      window_shape: (height, width) of the window, in pixels.
      strides: pixels between windows; (1, 1) by default, as in flax.
      padding: "VALID", "SAME" or ((top, bottom), (left, right)) pixels.

    Returns:
      [..., H', W', C].
    """
    window, strides = tuple(window_shape), tuple(strides or (1,) * len(window_shape))
    own = functools.partial(nn.max_pool, window_shape=window, strides=strides, padding=padding)
    # Windows that overlap, or that are cut off by padding, are XLA's: every other network pools without either.
    tiles = len(window) == 2 and strides == window and 2 <= math.prod(window) <= 127
    if not tiles or inputs.ndim < 3 or not jnp.issubdtype(inputs.dtype, jnp.floating):
        return own(inputs)
    if any(low or high for low, high in _pads(inputs.shape[-3:-1], window, padding)):
        return own(inputs)
    return on_cpu(functools.partial(_max_pool, window=window), own, inputs)


def _pads(size: Sequence[int], window: Sequence[int], padding: str | Sequence[tuple[int, int]]) -> Sequence[tuple]:
    return jax.lax.padtype_to_pads(size, window, window, padding) if isinstance(padding, str) else padding


def _views(x: Array, window: tuple[int, int]) -> list[Array]:
    """The strided views of [..., H, W, C] that hold the same pixel of every window, in row order."""
    (wh, ww), (h, w) = window, x.shape[-3:-1]
    return [x[..., i : h - h % wh : wh, j : w - w % ww : ww, :] for i in range(wh) for j in range(ww)]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_pool(x: Array, window: tuple[int, int]) -> Array:
    return functools.reduce(jnp.maximum, _views(x, window))


@_max_pool.defjvp
def _max_pool_tangent(window: tuple[int, int], primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Picks the tangent of the first pixel that reaches the maximum.

    A mask `pixel == top` would send the gradient to every tied pixel, and real images tie often: their saturated areas
    are flat. The transpose of this pick is one select over the image, where XLA's is a scatter.
    """
    (x,), (dx,) = primals, tangents
    views = _views(x, window)
    top = _max_pool(x, window)  # [..., h, w, C]; by this rule again: jnp.maximum's own would share ties at second order
    first = jnp.full(top.shape, len(views) - 1, jnp.int8)
    for index in reversed(range(len(views) - 1)):
        first = jnp.where(views[index] == top, jnp.int8(index), first)
    (*batch, h, w, c), (wh, ww) = top.shape, window
    index = jnp.arange(wh * ww, dtype=jnp.int8).reshape((1,) * len(batch) + (1, wh, 1, ww, 1))
    dx = dx[..., : h * wh, : w * ww, :].reshape(*batch, h, wh, w, ww, c)
    picked = jnp.where(first[..., :, None, :, None, :] == index, dx, 0)
    return top, picked.sum((-4, -2))
