"""Saving by the clock: when it saves, and that what comes out does not depend on it."""

import pytest

from jaxrec.engine import hooks
from jaxrec.engine.loop import Moment

VALUES = [0.1, 0.5, 0.5, 0.3, float("nan"), 0.4, 0.6, 0.2, 0.2]


@pytest.fixture
def saved(monkeypatch):
    """values, seconds -> the steps that are saved where a moment comes each second."""

    def run(values, seconds, mode="max", before=(), monitor="m") -> list[int]:
        now = [0.0]
        monkeypatch.setattr(hooks, "clock", lambda: now[0])
        found: list[int] = []
        hook = hooks.Seldom(
            lambda moment: found.append(moment.step),
            seconds=seconds,
            monitor=monitor,
            mode=mode,
            saved=[{"m": value} for value in before],
        )
        for index, value in enumerate(values, start=1):
            now[0] += 1
            hook(Moment(index, len(values), index - 1, None, 1, 1.0, None, {"m": value}, []))
        return found

    return run


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [
        (0, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (2, [1, 2, 3, 5, 7, 9]),
        (100, [1, 2, 3, 7, 9]),  # the best so far, the later of equals, and the last
    ],
)
def test_a_state_is_saved_in_time_where_it_is_best_and_at_the_end(saved, seconds, steps):
    assert saved(VALUES, seconds) == steps


@pytest.mark.parametrize("seconds", [0, 1, 2, 3, 100])
@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_best_of_what_is_saved_is_the_best_of_all(saved, seconds, mode):
    def best(steps):
        return max(steps, key=lambda step: (hooks.score(VALUES[step - 1], mode), step))

    assert best(saved(VALUES, seconds, mode)) == best(range(1, len(VALUES) + 1))


def test_a_resumed_run_knows_what_was_best(saved):
    assert saved([0.3, 0.4, 0.1], 100, before=[0.2, 0.4, None]) == [2, 3]


def test_a_better_moment_at_which_nothing_may_be_saved_does_not_count():
    """A run that is killed after moment 3 and goes on from 2 saves what the unbroken one does."""
    values = [0.9, 0.3, 0.95, 0.5, 0.96, 0.4, 0.1, 0.2]

    def run(start: int, before: list[int]) -> list[int]:
        found = list(before)
        known = [{"m": values[step - 1]} for step in found]
        options = {"seconds": 1e9, "monitor": "m", "mode": "max", "saved": known}
        hook = hooks.every(2, hooks.Seldom(lambda moment: found.append(moment.step), **options))
        for step in range(start + 1, len(values) + 1):
            hook(Moment(step, len(values), step - 1, None, 1, 1.0, None, {"m": values[step - 1]}, []))
        return found

    assert run(2, [2]) == run(0, []) == [2, 4, 8]


def test_without_a_metric_time_alone_decides(saved):
    assert saved(VALUES, 4, monitor=None) == [4, 8, 9]
