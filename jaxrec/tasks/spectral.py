"""Spectral normalisation: every matrix of a network divided by its largest singular value (Miyato et al., 2018).

It is a function of parameters, so any network can have it, and however often a step calls the network, the power
iteration that follows the singular value goes on by one step (their algorithm 1).

A matrix is a parameter of two dimensions or more: a convolution's [h, w, in, out] is the matrix [h * w * in, out].
"""

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxrec.types import Array, Key, PyTree

SMALLEST = 1e-24  # squared length of a vector that is divided by its length, and squared singular value likewise


def first_vectors(params: PyTree, key: Key) -> PyTree:
    """A random vector of length 1 for each matrix W [rows, columns] of `params`, [columns], where W has its place."""
    matrices = {path: leaf for path, leaf in flatten_dict(params).items() if leaf.ndim > 1}
    keys = jax.random.split(key, len(matrices))
    drawn = [jax.random.normal(key, leaf.shape[-1:]) for key, leaf in zip(keys, matrices.values(), strict=True)]
    return unflatten_dict(dict(zip(matrices, map(_unit, drawn), strict=True)))


def power_iteration(params: PyTree, vectors: PyTree) -> PyTree:
    """Brings each vector u one step, u <- W'W u / |W'W u|, nearer to the singular vector of W's largest value."""
    found = flatten_dict(params)

    def improved(path: tuple, vector: Array) -> Array:
        matrix = _matrix(found[path])
        moved = (matrix @ vector) @ matrix
        # A matrix of zeros says nothing: the vector waits for it to change.
        return jnp.where(jnp.sum(jnp.square(moved)) > SMALLEST, _unit(moved), vector)

    return unflatten_dict({path: improved(path, vector) for path, vector in flatten_dict(vectors).items()})


def normalise(params: PyTree, vectors: PyTree) -> PyTree:
    """Divides each matrix W by |W u| / |u|, which is its largest singular value once u has arrived.

    The gradient goes through this quotient with u as a constant (Miyato et al., 2018, section 2.1).
    """
    leaves = flatten_dict(params)
    for path, vector in flatten_dict(vectors).items():  # of any length: moving averages of them are shorter than 1
        leaves[path] = leaves[path] / _length(_matrix(leaves[path]) @ _unit(vector))
    return unflatten_dict(leaves)


def _matrix(leaf: Array) -> Array:
    return leaf.reshape(-1, leaf.shape[-1])


def _unit(vector: Array) -> Array:
    return vector / _length(vector)


def _length(vector: Array) -> Array:
    """Its norm, but never 0, nor without a gradient: a matrix of zeros stays one, and so does its gradient finite."""
    return jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(vector)), SMALLEST))
