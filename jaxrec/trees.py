"""Trees of arrays by the paths of their leaves."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxrec.errors import InputError
from jaxrec.types import PyTree


def spelled(path: tuple) -> str:
    """A path of `jax.tree_util` as "Dense_0/kernel".

    Attributes, keys and indices are spelled alike: a NamedTuple and the dictionary that it was stored as are equal.
    """
    return jax.tree_util.keystr(path, simple=True, separator="/")


def paths(tree: PyTree) -> dict[str, Any]:
    """Path -> leaf, in the order of `jax.tree.leaves`: {"Dense_0/kernel": ...}."""
    return {spelled(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def leaf_types(tree: PyTree) -> dict[str, str]:
    """Path -> type and shape of each leaf, {"Dense_0/kernel": "float32[784, 10]"}."""
    return {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in paths(tree).items()}


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path with dots, old value, new value) where two plain values, nested dictionaries or none, differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield path, old, new


def found_at(value: Any, path: str) -> list[Any]:
    """[what plain values have at a path with dots, as `differences` yields it], or [] where nothing is, not even None.

    A key may have dots itself.
    """
    for key, inner in value.items() if isinstance(value, dict) else ():
        if path == str(key):
            return [inner]
        if path.startswith(f"{key}.") and (found := found_at(inner, path.removeprefix(f"{key}."))):
            return found
    return []


def is_float(leaf: Any) -> bool:
    """Whether a leaf holds floating point numbers, which alone may be NaN or infinite."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def copied(tree: PyTree) -> PyTree:
    """The same arrays once more."""
    return jax.tree.map(jnp.copy, tree)


def all_finite(tree: PyTree) -> jax.Array:
    """Whether no floating point number of a tree is NaN or infinite, a bool scalar."""
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree) if is_float(leaf)] or True))


def check_same(given: PyTree, wanted: PyTree, what: str) -> None:
    """Raises InputError, beginning with `what`, unless two trees have arrays of the same shapes and types."""
    found, expected = leaf_types(given), leaf_types(wanted)
    for path in [*expected, *found]:
        if found.get(path) != expected.get(path):
            raise InputError(
                f"{what} is of another task: {path} is {found.get(path, 'missing')}, wanted is "
                f"{expected.get(path, 'nothing')}."
            )
