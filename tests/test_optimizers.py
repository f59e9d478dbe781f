"""Optimizers, three steps each as the trainer takes them (`minimize`), against their papers' updates in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec.task import minimize

RATE = 0.1
START = {"kernel": np.array([[1.0, -2.0], [0.5, 3.0]]), "bias": np.array([0.3, -0.7])}


def objective(params):
    """A loss whose gradient is params**3: another one at each step."""
    return sum(jnp.sum(leaf**4) / 4 for leaf in jax.tree.leaves(params)), None


def gradient_descent(p: np.ndarray):
    for _ in range(3):
        p = p - RATE * p**3
    return p


def momentum(p: np.ndarray):
    velocity = 0
    for _ in range(3):
        velocity = 0.9 * velocity + p**3
        p = p - RATE * velocity
    return p


def nesterov(p: np.ndarray):
    """Nesterov (1983) in the form of Sutskever et al. (2013): the step looks one decay ahead."""
    velocity = 0
    for _ in range(3):
        gradient = p**3
        velocity = 0.9 * velocity + gradient
        p = p - RATE * (gradient + 0.9 * velocity)
    return p


def adagrad(p: np.ndarray):
    """Duchi et al. (2011), from an accumulator of 0.1 as in TensorFlow."""
    squares = np.full_like(p, 0.1)
    for _ in range(3):
        squares = squares + (p**3) ** 2
        p = p - RATE * p**3 / np.sqrt(squares + 1e-7)
    return p


def rmsprop(p: np.ndarray):
    """Tieleman and Hinton (2012)."""
    squares = np.zeros_like(p)
    for _ in range(3):
        squares = 0.9 * squares + 0.1 * (p**3) ** 2
        p = p - RATE * p**3 / np.sqrt(squares + 1e-8)
    return p


def adam(p: np.ndarray, weight_decay: float = 0.0):
    """Kingma and Ba (2015); with weight decay, AdamW of Loshchilov and Hutter (2019)."""
    first, second = np.zeros_like(p), np.zeros_like(p)
    for t in range(1, 4):
        gradient = p**3
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        direction = (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        p = p - RATE * (direction + weight_decay * p)
    return p


@pytest.mark.parametrize(
    ("tx", "update"),
    [
        pytest.param(optax.sgd(RATE), gradient_descent, id="sgd"),
        pytest.param(optax.sgd(RATE, momentum=0.9), momentum, id="momentum"),
        pytest.param(optax.sgd(RATE, momentum=0.9, nesterov=True), nesterov, id="nesterov"),
        pytest.param(optax.adagrad(RATE), adagrad, id="adagrad"),
        pytest.param(optax.rmsprop(RATE), rmsprop, id="rmsprop"),
        pytest.param(optax.adam(RATE), adam, id="adam"),
        pytest.param(optax.adamw(RATE, weight_decay=0.3), lambda p: adam(p, 0.3), id="adamw"),
    ],
)
def test_three_steps_equal_the_hand_written_update(tx, update):
    params = three_steps(tx)
    for name, start in START.items():
        # Adam's 1 - 0.999**t loses three of float32's seven digits, so its steps of 0.1 are off by some 1e-6.
        np.testing.assert_allclose(params[name], update(start), rtol=1e-5, atol=3e-6)


def test_clipping_by_the_global_norm():
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(RATE))
    kernel, bias = START["kernel"], START["bias"]
    norms = []
    for _ in range(3):
        # One norm over all parameters, and only ever a shortening.
        norms.append(np.sqrt((kernel**6).sum() + (bias**6).sum()))
        scale = min(1.0, 1.0 / norms[-1])
        kernel, bias = kernel - RATE * scale * kernel**3, bias - RATE * scale * bias**3
    assert min(norms) > 1
    params = three_steps(tx)
    np.testing.assert_allclose(params["kernel"], kernel, rtol=1e-5)
    np.testing.assert_allclose(params["bias"], bias, rtol=1e-5)


def test_clipping_leaves_short_gradients_alone():
    tx = optax.chain(optax.clip_by_global_norm(1e3), optax.sgd(RATE))
    np.testing.assert_allclose(three_steps(tx)["kernel"], gradient_descent(START["kernel"]), rtol=1e-5)


def three_steps(tx: optax.GradientTransformation) -> dict[str, np.ndarray]:
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), START)
    opt_state = tx.init(params)
    step = jax.jit(lambda params, opt_state: minimize(objective, tx, params, opt_state)[:2])
    for _ in range(3):
        params, opt_state = step(params, opt_state)
    return jax.tree.map(np.asarray, params)
