"""Spectral normalisation against numpy's singular values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.models.critics import ConvCritic
from jaxrec.tasks import spectral

CRITIC = ConvCritic(classes=3, widths=(4, 8), kernel=3)
IMAGE = jnp.zeros((1, 8, 8, 1))


@pytest.fixture(scope="module")
def params():
    return CRITIC.init(jax.random.key(0), IMAGE, jnp.zeros(1, jnp.int32), train=False)["params"]


def arrived(params):
    """The vectors after many steps of the power iteration."""
    first = spectral.first_vectors(params, jax.random.key(1))
    return jax.jit(lambda: jax.lax.fori_loop(0, 500, lambda _, u: spectral.power_iteration(params, u), first))()


def largest(leaf) -> float:
    return np.linalg.svd(np.asarray(leaf, np.float64).reshape(-1, leaf.shape[-1]), compute_uv=False)[0]


def test_the_largest_singular_value_becomes_one(params):
    normalised = spectral.normalise(params, arrived(params))
    assert jax.tree.structure(normalised) == jax.tree.structure(params)
    matrices = 0
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(normalised), strict=True):
        if before.ndim < 2:
            np.testing.assert_array_equal(before, after)
            continue
        matrices += 1
        np.testing.assert_allclose(largest(after), 1, rtol=1e-3)
        np.testing.assert_allclose(after, before / largest(before), rtol=1e-3, atol=1e-6)
    assert matrices == 4  # two convolutions, the classes' vectors, the last layer


def test_the_length_of_a_vector_means_nothing(params):
    """A moving average of vectors of length 1 is shorter."""
    vectors = arrived(params)
    found = spectral.normalise(params, jax.tree.map(lambda vector: 0.2 * vector, vectors))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, spectral.normalise(params, vectors))


def test_one_step_is_the_power_iteration():
    matrix, start = np.random.default_rng(0).normal(size=(6, 4)), np.array([0.5, 0.5, 0.5, 0.5])
    found = spectral.power_iteration({"kernel": jnp.asarray(matrix)}, {"kernel": jnp.asarray(start)})["kernel"]
    expected = matrix.T @ matrix @ start
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), rtol=1e-5)


def test_the_gradient_is_that_of_the_quotient():
    """Of sum(C * W / sigma(W)), against finite differences of numpy's own singular value."""
    rng = np.random.default_rng(0)
    matrix, weights = rng.normal(size=(2, 5, 3))
    vectors = arrived({"kernel": jnp.asarray(matrix, jnp.float32)})

    def objective(matrix):
        return jnp.sum(weights.astype(np.float32) * spectral.normalise({"kernel": matrix}, vectors)["kernel"])

    found = jax.grad(objective)(jnp.asarray(matrix, jnp.float32))
    for place in np.ndindex(matrix.shape):
        step = np.zeros_like(matrix)
        step[place] = 1e-5
        up, down = ((weights * m).sum() / largest(m) for m in (matrix + step, matrix - step))
        np.testing.assert_allclose(found[place], (up - down) / 2e-5, rtol=1e-2, atol=1e-3)


def test_a_matrix_of_zeros_stays_one_and_is_left_when_it_changes():
    zero, vectors = {"kernel": jnp.zeros((3, 2))}, {"kernel": jnp.array([0.6, 0.8])}
    grads = jax.grad(lambda params: jnp.sum(spectral.normalise(params, vectors)["kernel"]))(zero)
    assert np.isfinite(grads["kernel"]).all()
    np.testing.assert_array_equal(spectral.normalise(zero, vectors)["kernel"], 0)
    waiting = spectral.power_iteration(zero, vectors)
    np.testing.assert_array_equal(waiting["kernel"], vectors["kernel"])
    later = {"kernel": jnp.array([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])}
    for _ in range(30):
        waiting = spectral.power_iteration(later, waiting)
    np.testing.assert_allclose(largest(spectral.normalise(later, waiting)["kernel"]), 1, rtol=1e-4)


def test_a_small_matrix_is_divided_by_its_own_value():
    small = {"kernel": 1e-5 * jnp.array([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])}
    vectors = {"kernel": jnp.array([0.6, 0.8])}
    for _ in range(40):
        vectors = spectral.power_iteration(small, vectors)
    np.testing.assert_allclose(np.linalg.norm(vectors["kernel"]), 1, rtol=1e-5)
    np.testing.assert_allclose(largest(spectral.normalise(small, vectors)["kernel"]), 1, rtol=1e-3)
