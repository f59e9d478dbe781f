"""The examples that a network finds most alike."""

import jax
import jax.numpy as jnp

from jaxrec.errors import InputError
from jaxrec.types import Array, Count


def nearest(features: Array, others: Array, count: Count) -> tuple[Array, Array]:
    """The nearest of others by the cosine of their features.

    Args:
      features: [N, D].
      others: [M, D], among which is looked.
      count: how many.

    Returns:
      (which of the others [N, count], the nearest first; their cosines [N, count]).

    Raises:
      InputError: there are fewer others.
    """
    if count > len(others):
        raise InputError(f"nearest count = {count}: there are {len(others)} to look among. Ask for fewer.")
    cosines, which = jax.lax.top_k(_unit(features) @ _unit(others).T, count)
    return which, cosines


def _unit(features: Array) -> Array:
    return features / jnp.maximum(jnp.linalg.norm(features, axis=-1, keepdims=True), 1e-12)
