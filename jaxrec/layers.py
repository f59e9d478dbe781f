"""Pooling in the forms that are fast on every backend.

`flax.linen.max_pool` is right everywhere, but its backward pass lowers to select-and-scatter, which XLA runs on a CPU
as a window reduction over four index arrays and a scatter: it takes more time than the convolutions around it.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrec.types import Array


def max_pool(x: Array, window: int = 2) -> Array:
    """Takes the maximum of each `window` x `window` square, [B, H, W, C] -> [B, H // window, W // window, C].

    Equal to `flax.linen.max_pool(x, (window, window), (window, window))` in values and gradients: where several
    pixels of a square tie, the gradient goes to the first in row order alone.
    """
    return _max_pool(x, window)


def avg_pool(x: Array, window: int = 2) -> Array:
    """Takes the mean of each `window` x `window` square, [B, H, W, C] -> [B, H // window, W // window, C]."""
    return nn.avg_pool(x, (window, window), (window, window))


def _squares(x: Array, window: int) -> list[Array]:
    """The `window`**2 strided views of [B, H, W, C] that hold the same pixel of every square, in row order."""
    h, w = (size - size % window for size in x.shape[1:3])
    return [x[:, i:h:window, j:w:window] for i in range(window) for j in range(window)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: Array, window: int) -> Array:
    return functools.reduce(jnp.maximum, _squares(x, window))


def _max_pool_forward(x: Array, window: int) -> tuple[Array, tuple[Array, tuple[int, ...]]]:
    squares = _squares(x, window)
    top = functools.reduce(jnp.maximum, squares)
    # The first index that reaches the maximum. A mask `pixel == top` would send the gradient to every tied pixel,
    # and real images tie often: their saturated areas are flat.
    first = jnp.full(top.shape, len(squares) - 1, jnp.int8)
    for index in reversed(range(len(squares) - 1)):
        first = jnp.where(squares[index] == top, jnp.int8(index), first)
    return top, (first, x.shape)


def _max_pool_backward(window: int, saved: tuple[Array, tuple[int, ...]], grad: Array) -> tuple[Array]:
    first, (_, height, width, channels) = saved
    b, h, w, _ = grad.shape
    index = jnp.arange(window * window, dtype=jnp.int8).reshape(1, 1, window, 1, window, 1)
    spread = jnp.where(first[:, :, None, :, None] == index, grad[:, :, None, :, None], 0)
    spread = spread.reshape(b, h * window, w * window, channels)
    return (jnp.pad(spread, ((0, 0), (0, height - h * window), (0, width - w * window), (0, 0))),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)
