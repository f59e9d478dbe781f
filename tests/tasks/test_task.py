"""The step: descend and from_loss against steps taken by hand in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxrec import losses
from jaxrec.models import CNN
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.task import State, descend

RATE = 0.5


class Linear(nn.Module):
    """Logits as a linear map of the pixels."""

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        return nn.Dense(3)(image.reshape(len(image), -1))


def random_batch(examples: int = 6, side: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(examples, side, side, 1)).astype(np.float32),
        "label": rng.integers(0, 3, examples),
        "mask": np.ones(examples, bool),
    }


def linear_task():
    return from_loss(Linear(), losses.softmax_cross_entropy, optax.sgd(RATE))


def test_descend_takes_the_gradient_step():
    # sum((x - target)^2) / 2 has the gradient x - target: each step of rate r leaves 1 - r of the distance.
    target, tx = jnp.array([3.0, -1.0]), optax.sgd(0.25)
    gradient = jax.grad(lambda x: (0.5 * jnp.sum((x - target) ** 2), {"at": x}), has_aux=True)
    params, aux = jnp.array([7.0, 7.0]), None
    opt_state = tx.init(params)
    for _ in range(4):
        before = params
        params, opt_state, aux, grads = descend(gradient, tx, params, opt_state)
    np.testing.assert_allclose(params, target + 0.75**4 * (7 - target), rtol=1e-6)
    np.testing.assert_array_equal(aux["at"], before)  # what was measured belongs to the params before the step
    np.testing.assert_allclose(grads, before - target, rtol=1e-6)


def numpy_gradient_step(state: State, image: np.ndarray, label: np.ndarray) -> tuple[dict, float, float]:
    """(params after the step, loss and accuracy before it) of softmax regression."""
    layer = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params["Dense_0"])
    pixels = image.reshape(len(image), -1).astype(np.float64)
    logits = pixels @ layer["kernel"] + layer["bias"]
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    error = (softmax - np.eye(3)[label]) / len(image)
    after = {
        "kernel": layer["kernel"] - RATE * pixels.T @ error,
        "bias": layer["bias"] - RATE * error.sum(0),
    }
    loss = -np.log(softmax[np.arange(len(label)), label]).mean()
    return after, loss, (logits.argmax(-1) == label).mean()


def assert_step(task, batch, real: np.ndarray) -> None:
    """One train step on `batch` is the gradient step on its `real` rows."""
    state = task.init(jax.random.key(0), batch)
    expected, loss, accuracy = numpy_gradient_step(state, batch["image"][real], batch["label"][real])
    after, statistics = jax.jit(task.train_step)(state, batch, jax.random.key(1))
    for name, value in expected.items():
        np.testing.assert_allclose(after.params["Dense_0"][name], value, rtol=1e-5, atol=1e-6)
    assert (int(state.step), int(after.step), after.step.dtype) == (0, 1, jnp.int32)
    np.testing.assert_allclose(statistics["loss"].compute(), loss, rtol=1e-5)
    np.testing.assert_allclose(statistics["accuracy"].compute(), accuracy)
    assert statistics["loss"].count == real.sum()


def test_train_step_of_a_linear_model_is_the_gradient_step():
    assert_step(linear_task(), random_batch(), np.ones(6, bool))


def test_masked_rows_do_not_pull_on_the_parameters():
    batch = random_batch()
    batch["mask"] = np.array([True, True, False, True, False, True])
    batch["image"][~batch["mask"]] = 1e3
    assert_step(linear_task(), batch, batch["mask"])


def test_eval_step_measures_and_changes_nothing():
    task, batch = linear_task(), random_batch()
    state = task.init(jax.random.key(0), batch)
    before = jax.device_get(state)
    statistics = jax.jit(task.eval_step)(state, batch, jax.random.key(1))
    _, loss, accuracy = numpy_gradient_step(state, batch["image"], batch["label"])
    np.testing.assert_allclose(statistics["loss"].compute(), loss, rtol=1e-5)
    np.testing.assert_allclose(statistics["accuracy"].compute(), accuracy)
    assert set(statistics) == {"loss", "accuracy"}
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(state))


def test_batch_statistics_are_carried_and_updated():
    model = CNN(classes=3, widths=(4,), hidden=(), norm="batch")
    task, batch = from_loss(model, losses.softmax_cross_entropy, optax.sgd(RATE)), random_batch(side=4)
    start = task.init(jax.random.key(0), batch)
    assert set(start.extra) == {"batch_stats"}
    after, _ = jax.jit(task.train_step)(start, batch, jax.random.key(1))
    kernel = np.asarray(start.params["Conv_0"]["kernel"])
    windows = np.lib.stride_tricks.sliding_window_view(batch["image"], (3, 3), (1, 2))
    features = np.einsum("bhwcij,ijco->bhwo", windows, kernel)  # [B, 2, 2, 4]
    statistics = after.extra["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * features.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * features.var((0, 1, 2)), rtol=1e-4)
    # Evaluation uses them: with others the loss is another.
    measured, at_start = (
        task.eval_step(state, batch, jax.random.key(1))["loss"].compute()
        for state in (after, after.replace(extra=start.extra))
    )
    assert abs(measured - at_start) > 1e-3


def test_a_prediction_is_what_the_network_says_in_evaluation():
    """Without dropout, by the batch statistics that were collected."""
    model, batch = CNN(classes=3, widths=(2,), hidden=(8,), dropout=0.5, norm="batch"), random_batch(side=4)
    task = from_loss(model, losses.softmax_cross_entropy, optax.sgd(RATE))

    @jax.jit
    def both(key):
        state = task.init(key, batch)
        variables = {"params": state.params, **state.extra}
        return task.predict_step(state, batch, key), model.apply(variables, batch["image"], train=False)

    found, expected = both(jax.random.key(0))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dropout", "differs"), [(0.5, True), (0.0, False)])
def test_only_dropout_makes_a_step_depend_on_its_key(dropout, differs):
    model = CNN(classes=3, widths=(), hidden=(8,), dropout=dropout)
    task, batch = from_loss(model, losses.softmax_cross_entropy, optax.sgd(RATE)), random_batch()
    state = task.init(jax.random.key(0), batch)
    step = jax.jit(task.train_step)
    kernels = [
        np.asarray(step(state, batch, jax.random.key(seed))[0].params["Dense_0"]["kernel"]) for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).any() == differs


def test_the_first_state_follows_from_the_key():
    task, batch = linear_task(), random_batch()
    kernels = [np.asarray(task.init(jax.random.key(seed), batch).params["Dense_0"]["kernel"]) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).any()
