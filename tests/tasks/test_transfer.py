"""What a run takes over from another one, and what it says of the rest."""

import jax
import numpy as np
import optax
import pytest

from jaxrec import losses
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.errors import InputError
from jaxrec.models import CNN
from jaxrec.tasks.average import with_average
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.transfer import transfer

BATCH = {"image": np.ones((2, 8, 8, 1), np.float32), "label": np.zeros(2, int), "mask": np.ones(2, bool)}


def state_of(seed: int, average: bool = False, **arguments):
    model = CNN(widths=(4,), norm="batch", **arguments)
    task = from_loss(model, losses.softmax_cross_entropy, optax.adam(1e-3))
    return (with_average(task, 0.9) if average else task).init(jax.random.key(seed), BATCH)


@pytest.fixture(scope="module")
def learned():
    """Another run's state, its batch statistics unlike those of a fresh one."""
    state = state_of(1, hidden=(8,))
    return {"params": state.params, "extra": jax.tree.map(lambda leaf: leaf + 1, state.extra)}


def test_everything_that_fits_is_taken_over(learned):
    fresh = state_of(2, hidden=(8,))
    state, report = transfer(fresh, learned)
    jax.tree.map(np.testing.assert_array_equal, {"params": state.params, "extra": state.extra}, learned)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, fresh.opt_state)
    assert int(state.step) == 0
    assert "fresh: none; unused: none" in report


def test_a_head_of_another_shape_starts_anew_only_when_asked(learned):
    fresh = state_of(2, hidden=(8,), classes=3)
    with pytest.raises(InputError, match=r"2 arrays are .*another shape there: Dense_1/bias.*reinit = 'Dense_1'"):
        transfer(fresh, learned)
    state, report = transfer(fresh, learned, reinit="Dense_1")
    jax.tree.map(np.testing.assert_array_equal, state.params["Dense_1"], fresh.params["Dense_1"])
    jax.tree.map(np.testing.assert_array_equal, state.params["Conv_0"], learned["params"]["Conv_0"])
    assert "fresh: Dense_1/bias, Dense_1/kernel" in report


def test_what_is_missing_is_an_error_and_what_is_left_over_is_said(learned):
    with pytest.raises(InputError, match=r"there: Dense_2/bias \(missing -> float32\[10\]\)"):
        transfer(state_of(2, hidden=(8, 10)), learned, reinit="Dense_1")
    _, report = transfer(state_of(2, hidden=()), learned, reinit="Dense_0")
    assert "unused: Dense_0/bias, Dense_0/kernel, Dense_1/bias" in report


def test_a_pattern_that_covers_nothing_is_an_error(learned):
    with pytest.raises(InputError, match="reinit = 'haed' is found in no path"):
        transfer(state_of(2, hidden=(8,)), learned, reinit="haed")


def test_an_average_of_the_new_run_is_left_to_its_first_step(learned):
    state, _ = transfer(state_of(2, average=True, hidden=(8,)), learned)
    assert set(state.extra) == {"batch_stats", "ema"}
    jax.tree.map(np.testing.assert_array_equal, state.params, learned["params"])


def test_a_checkpoint_is_read_without_knowing_its_shapes(learned, tmp_path):
    state = state_of(1, hidden=(8,))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(3, state)
        stored = checkpoints.read(3)
    taken, _ = transfer(state_of(2, hidden=(8,)), {name: stored[name] for name in ("params", "extra")})
    jax.tree.map(np.testing.assert_array_equal, taken.params, state.params)
