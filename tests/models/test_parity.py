"""Networks against PyTorch with the same weights: logits, and weights after optimizer steps, from a golden file."""

import functools

import golden
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden.networks import CASES, LEARNING_RATE, MOMENTUM, STEPS, Case, Given, given
from references import arrays, quickly_compiled, relative_error

from jaxrec import losses
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.task import State

PYTORCH = golden.read("parity")


@functools.cache
def both_given(name: str) -> Given:
    """What this side is given, after a look whether PyTorch was given the same."""
    known = given(CASES[name])
    distance = relative_error(known.digest(), PYTORCH[f"{name}/given"])
    assert distance < 1e-6, "weights or images are others than when the file was written: make golden"
    return known


def trained(case: Case, known: Given) -> dict[str, np.ndarray]:
    """Weights by path after as many steps of the task that experiments train."""
    tx = optax.sgd(LEARNING_RATE, MOMENTUM)
    task = from_loss(case.model, losses.softmax_cross_entropy, tx)
    params, extra = known.variables["params"], {n: tree for n, tree in known.variables.items() if n != "params"}
    state = State(jnp.zeros((), jnp.int32), params, quickly_compiled(tx.init)(params), extra)
    batch = {"image": known.image, "label": known.label, "mask": np.ones(len(known.label), bool)}
    step = quickly_compiled(task.train_step)
    for _ in range(STEPS):
        state, _ = step(state, batch, jax.random.key(0))
    return arrays(state.params)


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_pytorch(name):
    case, expected = CASES[name], PYTORCH[f"{name}/logits"]
    assert np.ptp(expected, axis=0).min() > 1e-2 * np.abs(expected).max()  # the images are told apart
    with case.shortened():
        known = both_given(name)
        run = quickly_compiled(lambda variables, image: case.model.apply(variables, image, train=False))
        logits = run(known.variables, known.image)
    assert relative_error(np.asarray(logits), expected) <= 1e-5


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.steps])
def test_weights_after_ten_steps_equal_pytorch(name):
    case, start = CASES[name], f"{name}/trained/"
    expected = {key.removeprefix(start): value for key, value in PYTORCH.items() if key.startswith(start)}
    with case.shortened():
        known = both_given(name)
        weights = trained(case, known)
    assert set(weights) == set(expected)
    errors = {path: relative_error(golden.digest(weights[path]), value) for path, value in expected.items()}
    assert max(errors.values()) <= 1e-5, errors
    # Equal is not for lack of moving: all do, but for a bias that a norm or a softmax behind it takes away.
    first = arrays(known.variables["params"])
    moved = {path: relative_error(golden.digest(first[path]), value) for path, value in expected.items()}
    still = {path for path, distance in moved.items() if distance < 1e-4}
    behind = "Conv" if "BatchNorm_0/scale" in moved else "pool"
    assert still == {path for path in moved if path.startswith(behind) and path.endswith("bias")}


def test_the_file_holds_these_cases_and_no_others():
    assert {name.partition("/")[0] for name in PYTORCH} == {"versions", *CASES}
