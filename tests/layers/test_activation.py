"""Activations against flax.linen's and the erf of SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import special

from jaxrec import layers

X = np.concatenate([np.linspace(-6, 6, 101), [-1e4, -40.0, 0.0, 40.0, 1e4]])


def derivatives(function, x):
    """A function of numbers and its first and second derivative, along x."""
    first = jax.grad(function)
    return [np.asarray(jax.vmap(each)(x)) for each in (function, first, jax.grad(first))]


@pytest.mark.parametrize("approximate", [True, False])
def test_gelu_and_its_derivatives_are_those_of_flax(approximate):
    x = jnp.asarray(X, jnp.float32)
    ours = derivatives(lambda x: layers.gelu(x, approximate), x)
    theirs = derivatives(lambda x: nn.gelu(x, approximate), x)
    for own, other in zip(ours, theirs, strict=True):
        assert own.dtype == np.float32
        np.testing.assert_allclose(own, other, rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(np.isfinite(ours), True)


def test_gelu_is_x_times_a_normal_distribution():
    share = special.ndtr(X)
    np.testing.assert_allclose(layers.gelu(jnp.asarray(X, jnp.float32), False), X * share, rtol=2e-5, atol=1e-30)
    np.testing.assert_allclose(layers.gelu(jnp.asarray(X, jnp.float32)), X * share, rtol=1e-3, atol=1e-3)


def test_gelu_keeps_one_array_for_its_derivative():
    x = jnp.ones((7, 11))

    def kept(function) -> int:
        _, pull_back = jax.vjp(function, x)
        return sum(leaf.shape == x.shape for leaf in jax.tree.leaves(pull_back))

    assert kept(layers.gelu) == 1 < kept(nn.gelu)


def test_half_precision_stays_and_whole_numbers_become_floats():
    assert layers.gelu(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16
    assert jax.grad(lambda x: layers.gelu(x).sum().astype(jnp.float32))(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16
    np.testing.assert_allclose(layers.gelu(jnp.arange(3)), nn.gelu(jnp.arange(3.0)), rtol=1e-6)
    assert layers.gelu(2.0) == nn.gelu(2.0)


def test_half_precision_keeps_the_lower_tail():
    x = np.float32([-3.0, -3.5, -4.0])
    found = np.asarray(layers.gelu(jnp.asarray(x, jnp.bfloat16), False), np.float64)
    np.testing.assert_allclose(found, x * special.ndtr(x), rtol=0.05)
