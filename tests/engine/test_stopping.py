"""Hooks of a moment's scalars: when early stopping says stop, also in a resumed run, and the rate that is recorded."""

import numpy as np
import pytest

from jaxrec.engine.hooks import EarlyStopping, every, record_rates
from jaxrec.engine.loop import Moment
from jaxrec.tasks.skipping import Skipping
from jaxrec.tasks.task import State


def moment(step: int, **scalars: float) -> Moment:
    return Moment(step, 100, step - 1, None, 1, 1.0, None, scalars, [])


def stops_at(values, *, mode="max", patience=2, history=()) -> int | None:
    stopping = EarlyStopping("m", mode=mode, patience=patience, history=[{"m": value} for value in history])
    return next((at for at, value in enumerate(values) if stopping(moment(at + 1, m=value))), None)


@pytest.mark.parametrize(
    ("values", "mode", "expected"),
    [
        ([1, 2, 3, 4, 5], "max", None),
        ([1, 2, 1, 1, 9], "max", 3),
        ([1, 2, 1, 3, 2, 1, 9], "max", 5),  # an improvement starts the count anew
        ([2, 2, 2], "max", 2),  # standing still is no improvement
        ([5, 4, 3, 2], "min", None),
        ([5, 4, 4, 4], "min", 3),
        ([np.nan, np.nan, 1], "max", 1),
        ([1, np.nan, np.nan], "max", 2),
        ([np.nan, 1, 2, 3], "max", None),
    ],
)
def test_patience(values, mode, expected):
    assert stops_at(values, mode=mode) == expected


def test_a_resumed_run_stops_where_the_unbroken_one_does():
    values = [1, 4, 2, 5, 3, 3, 1, 9]
    whole = stops_at(values, patience=3)
    assert whole == 6
    for resumed in range(whole):
        assert resumed + stops_at(values[resumed:], patience=3, history=values[:resumed]) == whole


def test_history_as_records_write_it():
    stopping = EarlyStopping("m", mode="min", patience=2, history=[{"m": 1.0}, {"train/loss": 3}, {"m": None}])
    assert not stopping.exhausted  # None is what a record holds for NaN; a moment without the metric does not count
    assert stopping(moment(4, m=1.0))
    assert stopping.exhausted


def test_every_passes_the_wish_to_stop_on():
    hook = every(10, lambda moment: True)
    assert hook(Moment(10, 100, 9, None, 1, 1.0, None, {}, [])) is True
    assert hook(Moment(11, 100, 10, None, 1, 1.0, None, {}, [])) is None


@pytest.mark.parametrize(
    ("step", "kept", "expected"),
    [
        (10, (), 4.5),  # ten steps, numbered from 0: the last one had the rate of 9
        (10, Skipping((), 0, 4), 2.5),  # four of them were skipped, and the optimizer has counted six
        (3, Skipping((), 3, 3), 0.0),  # none was taken
    ],
)
def test_the_rate_that_is_recorded_is_that_of_the_latest_step(step, kept, expected):
    seen = moment(step)._replace(state=State(step, {}, kept, {}))
    record_rates(learning_rate=lambda taken: np.float32(0.5) * taken, none=None)(seen)
    assert seen.scalars == {"train/learning_rate": expected}
