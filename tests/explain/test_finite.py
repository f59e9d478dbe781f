"""The first operation that is not finite, in networks and functions of all kinds."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.explain.finite import first_non_finite


class Net(nn.Module):
    """Takes the square root of a negative number in its second layer."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(3, name="first")(x))
        scores = jnp.where(jnp.arange(3) > 0, x, -jnp.inf)  # a mask, and no fault
        x = x + jax.nn.softmax(scores)
        return jnp.sqrt(nn.Dense(1, name="second")(x) - 100)


def test_the_first_operation_that_is_not_finite_is_named_with_its_place():
    x = jnp.ones((2, 4))
    params = Net().init(jax.random.key(0), x)

    @jax.jit
    def gradient(params, x):
        return jax.grad(lambda params: jax.lax.cond(x[0, 0] > 0, Net().apply, lambda p, x: x[:, :1], params, x).sum())(
            params
        )

    assert np.isnan(gradient(params, x)["params"]["first"]["kernel"]).any()
    where = first_non_finite(gradient, params, x)
    assert where.startswith("sqrt in ")
    assert "Net" in where
    assert "test_finite.py:" in where
    assert first_non_finite(gradient, params, -x) is None  # the other branch is not run


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: jnp.exp(x * 100), "exp"),
        (lambda x: x / (x - x), "div"),
        (lambda x: jax.lax.scan(lambda c, v: (jnp.sqrt(c - v), c), x.sum(), x)[0], "scan"),
        (lambda x: jax.checkpoint(lambda x: jnp.sqrt(-x))(x), "sqrt"),
        (lambda x: jax.vmap(jnp.log)(x - 3), "log"),
        (lambda x: (x + jnp.inf).sum(), None),  # it was not finite before
        (lambda x: x.astype(jnp.int32) + 1, None),
    ],
)
def test_operations_of_all_kinds(function, said):
    where = first_non_finite(function, jnp.arange(1.0, 4.0))
    assert where is None if said is None else where.startswith(said)
