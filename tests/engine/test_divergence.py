"""What is not finite is found, wherever it is, and nothing of it is saved."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.data.batches import train_batches
from jaxrec.engine import hooks
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.engine.divergence import first_bad_step, tensors
from jaxrec.engine.loop import fit
from jaxrec.engine.program import Program, compile_task
from jaxrec.errors import DivergedError
from jaxrec.metrics import Mean
from jaxrec.tasks.task import State, Task

PLACES = ("loss", "params", "opt_state", "batch_stats", "ema", "huge")
AT = 13  # the step that goes wrong, of those from 0 on


def going_wrong(place: int, at: int, value: float = np.nan) -> Task:
    """One number in each place, and at one step a NaN in one of them, or a number too large to go on with."""
    place, at, value = jnp.int32(place), jnp.int32(at), jnp.float32(value)

    def init(key, batch):
        del key, batch
        one = jnp.ones((), jnp.float32)
        return State(jnp.int32(0), {"w": one}, {"m": one}, {"batch_stats": {"mean": one}, "ema": {"w": one}})

    def train_step(state, batch, key):
        del key

        def poisoned(here: str, number):
            return jnp.where((state.step == at) & (place == PLACES.index(here)), value, number)

        w = poisoned("params", jnp.where((state.step == at) & (place == PLACES.index("huge")), 4e35, state.params["w"]))
        loss = poisoned("loss", jnp.square(state.params["w"]))
        new = State(
            state.step + 1,
            {"w": w},
            {"m": poisoned("opt_state", state.opt_state["m"])},
            {
                "batch_stats": {"mean": poisoned("batch_stats", state.extra["batch_stats"]["mean"])},
                "ema": {"w": poisoned("ema", state.extra["ema"]["w"])},
            },
        )
        return new, {"loss": Mean(loss * len(batch["mask"]), jnp.float32(len(batch["mask"])))}

    return Task(init, train_step, lambda state, batch, key: {})


@pytest.fixture(scope="module")
def numbers():
    return train_batches({"image": np.zeros((24, 1), np.float32)}, batch_size=8)


def program(task: Task, numbers) -> Program:
    return compile_task(task, numbers, log_every=5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("save_every", [5, 14])
def test_the_step_is_found_and_nothing_after_it_is_saved(numbers, tmp_path, place, value, save_every):
    """Also where it is the step before a save, and where parameters of 4e35 are finite still."""
    wrong = program(going_wrong(PLACES.index(place), AT, value), numbers)
    # A step goes wrong in what it finds, or in what it leaves; 4e35 is finite, and its square is not.
    bad = AT + 1 if place == "huge" else AT
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(DivergedError) as raised:
            fit(
                wrong,
                steps=30,
                hooks=[hooks.stop_if_diverged, hooks.every(save_every, hooks.save(checkpoints))],
            )
        saved = checkpoints.latest()
        assert saved == {5: 10, 14: None}[save_every]
        state = checkpoints.restore(wrong.template, saved) if saved else wrong.init()
    found = first_bad_step(wrong, state, saved or 0, raised.value.step + 1)
    assert found.step == bad
    assert wrong.finite(found.before)
    names = {
        "params": "params/w",
        "opt_state": "opt_state/m",
        "batch_stats": "extra/batch_stats/mean",
        "ema": "extra/ema/w",
    }
    norms = tensors(found)
    broken = {name for name, row in norms.items() if row["nan"] + row["inf"]}
    assert broken == ({names[place]} if place in names else set())
    if place == "huge":
        assert norms["params/w"]["norm_before"] == pytest.approx(4e35)
        assert not np.isfinite(found.found["loss"].compute())


def test_a_run_that_stays_finite_has_no_bad_step(numbers):
    fine = program(going_wrong(0, at=100), numbers)
    assert first_bad_step(fine, fine.init(), 0, 23) is None


def test_a_notebook_is_warned_and_goes_on(numbers):
    wrong = program(going_wrong(PLACES.index("loss"), 3), numbers)
    with pytest.warns(UserWarning, match="Not all train metrics are finite in steps 0 to 5"):
        assert int(fit(wrong, steps=10).step) == 10
