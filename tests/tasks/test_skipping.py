"""Steps that would not end in finite numbers leave the state as it was, to the bit."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec.data.batches import train_batches
from jaxrec.engine import hooks
from jaxrec.engine.loop import Moment, fit
from jaxrec.engine.program import compile_task
from jaxrec.errors import DivergedError
from jaxrec.sharding import data_parallel
from jaxrec.tasks.average import with_average
from jaxrec.tasks.one_loss import from_apply
from jaxrec.tasks.skipping import skipping
from jaxrec.tasks.task import Task

BAD = (3, 4, 7)


def regression(bad: tuple[int, ...]) -> Task:
    """Learns a mean by Adam; at bad steps the loss of the example with id 0 or the last one in the batch is NaN."""

    def apply(params, extra, batch, key, train):
        return params["w"] - batch["image"][:, 0], extra

    def loss(outputs, batch, *, step):
        wrong = jnp.isin(step, jnp.array(bad, jnp.int32)) & (jnp.arange(len(outputs)) == 0)
        return {"loss": jnp.where(wrong, jnp.nan, 1.0) * jnp.square(outputs)}

    def init(key, batch):
        return {"w": jnp.zeros(())}, {}

    return with_average(from_apply(init, apply, loss, optax.adam(0.1)), 0.9)


@pytest.fixture(scope="module")
def numbers():
    return train_batches({"image": np.arange(24, dtype=np.float32)[:, None]}, batch_size=8)


@pytest.mark.parametrize("way", [{}, {"parallel": "pmap"}], ids=["jit", "pmap"])
def test_bad_steps_are_skipped_and_counted(numbers, way):
    """NaN comes to one device of eight alone, and all of them skip."""
    program = compile_task(skipping(regression(BAD)), numbers, log_every=1, parallel=data_parallel(**way))
    moments: list[Moment] = []

    def keep(moment: Moment) -> None:
        moments.append(moment._replace(state=jax.device_get(moment.state)))

    fit(program, steps=10, hooks=[keep])
    assert [moment.scalars["train/skipped"] for moment in moments] == [float(step in BAD) for step in range(10)]
    assert [moment.scalars["train/skipped_in_a_row"] for moment in moments] == [0, 0, 0, 1, 2, 0, 0, 1, 0, 0]
    assert [np.isfinite(moment.scalars["train/loss"]) for moment in moments] == [step not in BAD for step in range(10)]
    for step in range(1, 10):
        before, after = moments[step - 1].state, moments[step].state
        assert int(after.step) == step + 1
        same = [
            np.asarray(one).tobytes() == np.asarray(other).tobytes()
            for one, other in zip(
                jax.tree.leaves((before.params, before.opt_state.opt_state, before.extra)),
                jax.tree.leaves((after.params, after.opt_state.opt_state, after.extra)),
                strict=True,
            )
        ]
        assert all(same) == (step in BAD)
    assert int(moments[-1].state.opt_state.skipped) == 3


def test_without_bad_steps_it_is_the_same_task(numbers):
    plain = compile_task(regression(()), numbers, log_every=5)
    guarded = compile_task(skipping(regression(())), numbers, log_every=5)
    first, second = fit(plain, steps=10), fit(guarded, steps=10)
    assert first.params["w"] == second.params["w"]
    assert plain.predict is not None


def test_too_many_in_a_row_end_the_run_with_a_finite_state(numbers):
    program = compile_task(skipping(regression(tuple(range(5, 100)))), numbers, log_every=3)
    kept = []
    with pytest.raises(DivergedError, match=r"^7 steps in a row, up to step 12, would have ended in numbers that are"):
        fit(
            program,
            steps=100,
            hooks=[lambda moment: kept.append(jax.device_get(moment.state)), hooks.stop_if_skipping(5)],
        )
    assert np.isfinite(kept[-1].params["w"])
    assert program.finite(kept[-1])


@pytest.mark.parametrize(("steps", "saved"), [(100, [3]), (6, [3, 6])])
def test_nothing_is_saved_while_steps_are_skipped_but_the_end(numbers, steps, saved):
    program = compile_task(skipping(regression(tuple(range(5, 100)))), numbers, log_every=3)
    found: list[int] = []
    saving = hooks.unless_skipping(lambda moment: found.append(moment.step))
    with contextlib.suppress(DivergedError):
        fit(program, steps=steps, hooks=[hooks.stop_if_skipping(5), saving])
    assert found == saved


def test_a_gradient_that_is_not_finite_is_seen_where_clipping_would_hide_it(numbers):
    """The square root's slope at 0 is infinite; clipped to 1, the parameter would stay finite."""
    task = from_apply(
        lambda key, batch: ({"w": jnp.zeros(())}, {}),
        lambda params, extra, batch, key, train: (jnp.broadcast_to(jnp.sqrt(params["w"]), batch["mask"].shape), extra),
        lambda outputs, batch: {"loss": outputs},
        optax.chain(optax.clip(1.0), optax.sgd(0.1)),
    )
    program = compile_task(skipping(task), numbers, log_every=1)
    state = fit(program, steps=2)
    assert float(state.params["w"]) == 0.0
    assert int(state.opt_state.skipped) == 2
