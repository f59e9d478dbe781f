"""Activations. What autodiff keeps of one for its derivative costs a CPU more than the activation."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrec.layers.platform import on_cpu
from jaxrec.types import Array


def gelu(x: Array, approximate: bool = True) -> Array:
    """The Gaussian error linear unit, x * P(X <= x) for a standard normal X (Hendrycks & Gimpel, 2016).

    Args:
      x: of any shape.
      approximate: whether by their formula with a tanh, as in `flax.linen.gelu`.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return nn.gelu(x, approximate)
    return on_cpu(
        functools.partial(_gelu, approximate=approximate), functools.partial(nn.gelu, approximate=approximate), x
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _gelu(x: Array, approximate: bool) -> Array:
    """The same, of whose derivative one array is kept: autodiff keeps four for the tanh."""
    return x * _share(x, approximate)[0]


@_gelu.defjvp
def _gelu_tangent(approximate, primals, tangents):
    (x,), (dx,) = primals, tangents
    share, density = _share(x, approximate)
    # Kept as it is: XLA draws it into the sums that are gradients of biases, in pieces and with constants spread out.
    return x * share, jax.lax.optimization_barrier(share + x * density) * dx


def _share(x: Array, approximate: bool) -> tuple[Array, Array]:
    """P(X <= x) and its derivative, the density at x; of the formula with a tanh, its own."""
    if not approximate:  # erfc, since 1 + erf has no digits left where the share is small
        return jax.lax.erfc(-x / math.sqrt(2)) / 2, jnp.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    scale = math.sqrt(2 / math.pi)
    bend = jnp.tanh(scale * (x + 0.044715 * x**3))
    return (1 + bend) / 2, (1 - bend * bend) * (scale / 2 * (1 + 3 * 0.044715 * x * x))
