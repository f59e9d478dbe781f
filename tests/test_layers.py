"""Pooling against flax.linen, in values and in gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec import layers


def flax_max_pool(x: jax.Array, window: int) -> jax.Array:
    return nn.max_pool(x, (window, window), (window, window))


def value_and_gradient(pool, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pools x and pulls a random cotangent back, so that a gradient sent to the wrong pixel shows."""
    shape = jax.eval_shape(pool, x).shape
    cotangent = np.random.default_rng(0).normal(size=shape).astype(x.dtype)

    @jax.jit
    def run(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, pull_back = jax.vjp(pool, x)
        return y, pull_back(cotangent)[0]

    y, gradient = run(x, cotangent)
    return np.asarray(y), np.asarray(gradient)


def assert_same_max_pool(x: np.ndarray, window: int) -> None:
    ours = value_and_gradient(lambda x: layers.max_pool(x, window), x)
    flax = value_and_gradient(lambda x: flax_max_pool(x, window), x)
    # Both only move numbers, none is computed: equal to the bit.
    np.testing.assert_array_equal(ours[0], flax[0])
    np.testing.assert_array_equal(ours[1], flax[1])


@settings(max_examples=12)  # each example compiles
@given(
    batch=st.integers(1, 2),
    height=st.integers(3, 8),
    width=st.integers(3, 8),
    channels=st.integers(1, 3),
    window=st.sampled_from([2, 3]),
    tied=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_max_pool_equals_flax(batch, height, width, channels, window, tied, seed):
    rng = np.random.default_rng(seed)
    shape = batch, height, width, channels
    x = rng.integers(0, 3, shape) if tied else rng.normal(size=shape)
    assert_same_max_pool(x.astype(np.float32), window)


@pytest.mark.parametrize("window", [2, 3])
def test_max_pool_equals_flax_on_real_images(digits, window):
    images = digits.image[:64].astype(np.float32) / 255
    corners = images[:, ::2, ::2], images[:, 1::2, 1::2]
    assert (corners[0] == corners[1]).mean() > 0.1  # real images tie, which is what this test is for
    assert_same_max_pool(images, window)


def test_a_flat_square_sends_its_gradient_to_its_first_pixel_alone():
    gradient = jax.grad(lambda x: layers.max_pool(x).sum())(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0], [0, 0]])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint], ids=["jit", "remat"])
def test_max_pool_under_transformations_of_the_step(wrap, dtype):
    x = np.random.default_rng(0).integers(0, 3, (2, 7, 5, 2)).astype(dtype)
    # The gradient of a jitted function and the jitted gradient take different paths through a custom rule.
    for gradient in (lambda f: jax.grad(wrap(f)), lambda f: jax.jit(jax.grad(wrap(f)))):
        ours = gradient(lambda x: jnp.square(layers.max_pool(x, 2)).sum())(x)
        flax = gradient(lambda x: jnp.square(flax_max_pool(x, 2)).sum())(x)
        assert ours.dtype == x.dtype
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(flax))


def test_max_pool_under_vmap():
    x = np.random.default_rng(0).integers(0, 3, (3, 2, 5, 4, 2)).astype(np.float32)
    per_stack = jax.vmap(functools.partial(layers.max_pool, window=2))
    values, gradients = value_and_gradient(per_stack, x)
    flat_values, flat_gradients = value_and_gradient(lambda x: flax_max_pool(x, 2), x.reshape(6, 5, 4, 2))
    np.testing.assert_array_equal(values.reshape(flat_values.shape), flat_values)
    np.testing.assert_array_equal(gradients.reshape(flat_gradients.shape), flat_gradients)


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("size", [(6, 6), (7, 5)], ids=str)
def test_avg_pool_is_the_mean_of_each_square(size, window):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    h, w = size[0] // window, size[1] // window
    squares = x[:, : h * window, : w * window].reshape(2, h, window, w, window, 3)
    values, gradients = value_and_gradient(lambda x: layers.avg_pool(x, window), x)
    np.testing.assert_allclose(values, squares.mean((2, 4)), rtol=1e-5, atol=1e-6)
    cotangent = np.random.default_rng(0).normal(size=values.shape).astype(np.float32)
    spread = np.zeros_like(x)
    spread[:, : h * window, : w * window] = cotangent.repeat(window, 1).repeat(window, 2) / window**2
    np.testing.assert_allclose(gradients, spread, rtol=1e-5, atol=1e-6)
