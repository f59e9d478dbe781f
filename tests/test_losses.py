"""Each loss against numpy: values, gradients, per-example shape."""

import functools
import inspect

import jax
import numpy as np
import pytest

from jaxrec import losses


def numpy_cross_entropy(logits: np.ndarray, label: np.ndarray, label_smoothing: float = 0.0) -> np.ndarray:
    classes = logits.shape[-1]
    target = (1 - label_smoothing) * np.eye(classes)[label] + label_smoothing / classes
    top = logits.max(-1, keepdims=True)
    log_softmax = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    return -(target * log_softmax).sum(-1)


def numpy_squared_error(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    return ((logits - np.eye(logits.shape[-1])[label]) ** 2).mean(-1)


# name of the loss -> [(its arguments, the same in numpy)]
REFERENCES = {
    "softmax_cross_entropy": [
        ({}, numpy_cross_entropy),
        ({"label_smoothing": 0.1}, functools.partial(numpy_cross_entropy, label_smoothing=0.1)),
        ({"label_smoothing": 0.9}, functools.partial(numpy_cross_entropy, label_smoothing=0.9)),
    ],
    "mean_squared_error": [({}, numpy_squared_error)],
}

CASES = [
    pytest.param(functools.partial(getattr(losses, name), **arguments), reference, id=f"{name}-{arguments}")
    for name, cases in REFERENCES.items()
    for arguments, reference in cases
]


def random_batch(examples: int = 6, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(0, 3, (examples, classes)).astype(np.float32), rng.integers(0, classes, examples)


def test_every_loss_has_a_reference():
    public = {
        name
        for name, value in vars(losses).items()
        if inspect.isfunction(value) and value.__module__ == losses.__name__ and not name.startswith("_")
    }
    assert public == set(REFERENCES)


@pytest.mark.parametrize(("loss", "reference"), CASES)
def test_values_per_example(loss, reference):
    logits, label = random_batch()
    values = loss(logits, {"label": label})
    assert {name: value.shape for name, value in values.items()} == {"loss": (6,), "accuracy": (6,)}
    np.testing.assert_allclose(values["loss"], reference(logits.astype(np.float64), label), rtol=1e-5)
    np.testing.assert_array_equal(values["accuracy"], logits.argmax(-1) == label)
    assert 0 < values["accuracy"].mean() < 1  # else the line above says little


@pytest.mark.parametrize(("loss", "reference"), CASES)
def test_gradient_equals_finite_differences(loss, reference):
    logits, label = random_batch()
    gradient = jax.grad(lambda logits: loss(logits, {"label": label})["loss"].sum())(logits)
    # Differences of the numpy reference in float64: those of the loss itself would be lost in float32.
    step, expected = 1e-6, np.zeros(logits.shape)
    for position in np.ndindex(*logits.shape):
        shifted = np.zeros(logits.shape)
        shifted[position] = step
        above, below = (reference(logits + sign * shifted, label).sum() for sign in (1, -1))
        expected[position] = (above - below) / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_extreme_logits_is_finite(smoothing):
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    batch = {"label": np.array([0, 0])}
    loss, gradient = jax.value_and_grad(
        lambda logits: losses.softmax_cross_entropy(logits, batch, label_smoothing=smoothing)["loss"].sum()
    )(logits)
    # Right and sure costs 0, wrong and sure the distance of 2e4; smoothing moves half its share between them.
    np.testing.assert_allclose(loss, 2e4, rtol=1e-6)
    expected = [[smoothing / 2, -smoothing / 2], [smoothing / 2 - 1, 1 - smoothing / 2]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_accuracy_of_tied_logits_counts_the_first_class():
    batch = {"label": np.array([0, 1])}
    accuracy = losses.softmax_cross_entropy(np.zeros((2, 3), np.float32), batch)["accuracy"]
    np.testing.assert_array_equal(accuracy, [1, 0])
