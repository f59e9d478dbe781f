"""A run that is stopped at any step, or in an evaluation, goes on to the bits of the run that was not."""

import pathlib

import jax
import numpy as np
import optax
import pytest

from jaxrec import losses
from jaxrec.data.batches import Batches, eval_batches, train_batches
from jaxrec.engine import hooks
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.engine.loop import UNFINISHED, Moment, Pause, fit, newest
from jaxrec.engine.program import Program, compile_task
from jaxrec.models import CNN
from jaxrec.output.records import Records
from jaxrec.tasks.average import with_average
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.task import State

STEPS = 23


@pytest.fixture(scope="module")
def program(digits, one_device) -> Program:
    """Everything that has state, in intervals of 5 steps and calls of 2."""
    arrays = {"image": digits.image.astype(np.float32) / 255, "label": digits.label}
    model = CNN(widths=(2,), hidden=(4,), dropout=0.5, norm="batch")
    task = with_average(from_loss(model, losses.softmax_cross_entropy, optax.adamw(1e-2)), 0.9)
    batches = train_batches(arrays, batch_size=16, ids=digits.splits["train"])
    return compile_task(task, batches, log_every=5, steps_per_call=2, parallel=one_device)


class Asked:
    """Answers no so many times, and then yes."""

    def __init__(self, times: float):
        self.times = times

    def __call__(self) -> bool:
        self.times -= 1
        return self.times < 0


def run(program: Program, folder: pathlib.Path, split: Batches, asked: Asked) -> tuple[State, hooks.Speed]:
    """One process of a run: as experiments/commands/run.py carries it out."""
    with Checkpoints(folder / "checkpoints") as checkpoints, Checkpoints(folder / "interrupted") as interrupted:
        source, start = newest(checkpoints, interrupted)
        before = source.metrics(start) if source else {}
        speed = hooks.Speed(before)
        with Records(folder, start - len(before.get(UNFINISHED, ()))) as record:
            state = fit(
                program,
                steps=STEPS,
                checkpoints=checkpoints,
                hooks=[
                    speed,
                    hooks.every(10, hooks.evaluate(validation=split)),
                    record,
                    hooks.every(10, hooks.save(checkpoints, speed)),
                ],
                pause=Pause(asked, interrupted, [speed, hooks.save(interrupted, speed)]),
            )
        return state, speed


def test_a_run_stopped_again_and_again_is_the_unbroken_run(program, digits, tmp_path):
    """It stops when it has looked `patience` times whether it is to: in each place where it looks, sooner or later."""
    arrays = {"image": digits.image.astype(np.float32) / 255, "label": digits.label}
    split = eval_batches(arrays, batch_size=16, ids=digits.splits["validation"][:40])
    (tmp_path / "whole").mkdir()
    whole, _ = run(program, tmp_path / "whole", split, Asked(np.inf))
    expected = (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert expected.count(b"\n") == 5
    for patience in (4, 5, 7):
        folder = tmp_path / str(patience)
        folder.mkdir()
        stops = []
        asked = Asked(-1)
        while asked.times < 0:
            asked = Asked(patience)
            state, speed = run(program, folder, split, asked)
            assert not stops or int(state.step) >= stops[-1]
            stops.append(int(state.step))
        assert len(stops) > 3
        assert any(step % 5 for step in stops[:-1]), "never stopped between two moments"
        assert speed.examples == 16 * STEPS
        assert (folder / "metrics.jsonl").read_bytes() == expected
        for (path, leaf), (_, other) in zip(
            *(jax.tree_util.tree_leaves_with_path(each) for each in (whole, state)), strict=True
        ):
            assert np.asarray(leaf).tobytes() == np.asarray(other).tobytes(), path


def test_an_evaluation_that_was_cut_short_is_made_again(program, digits, tmp_path):
    arrays = {"image": digits.image.astype(np.float32) / 255, "label": digits.label}
    split = eval_batches(arrays, batch_size=16, ids=digits.splits["validation"][:40])
    stops = []

    def cut(moment: Moment) -> None:
        stops.append(moment.step)

    with Checkpoints(tmp_path / "interrupted") as interrupted:
        # 6 looks of step 0 to 5 and in the evaluation at 5, of which the last one says yes.
        pause = Pause(Asked(5), interrupted, [hooks.save(interrupted)])
        state = fit(program, steps=10, hooks=[hooks.evaluate(validation=split), cut], pause=pause)
        assert (int(state.step), stops) == (5, [])
        assert interrupted.latest() == 5
        assert len(interrupted.metrics(5)[UNFINISHED]) == 5
        pause = pause._replace(asked=Asked(np.inf))
        fit(program, steps=10, hooks=[hooks.evaluate(validation=split), cut], pause=pause)
    assert stops == [5, 10]


def test_a_run_that_is_asked_before_its_first_step_leaves_nothing(program, tmp_path):
    with Checkpoints(tmp_path / "interrupted") as interrupted:
        pause = Pause(Asked(0), interrupted, [hooks.save(interrupted)])
        assert int(fit(program, steps=5, pause=pause).step) == 0
        assert interrupted.latest() is None
