"""Rows made ahead: in order, one call ahead and no more, and the wait for them counted apart from the devices' work."""

import time

import pytest

from jaxrec.engine import hooks
from jaxrec.engine.feeding import Feed
from jaxrec.engine.loop import Moment


def test_rows_come_in_order_and_one_call_ahead():
    made, feed = [], Feed()

    def make(number: int) -> int:
        made.append(number)
        return 10 * number

    seen = []
    for rows in feed(make, [(number,) for number in range(5)], lambda: None):
        time.sleep(0.02)  # the devices' work
        seen.append((rows, len(made)))
    assert [rows for rows, _ in seen] == [0, 10, 20, 30, 40]
    assert [count for _, count in seen] == [2, 3, 4, 5, 5]


def test_only_the_wait_behind_the_devices_work_counts():
    feed = Feed()
    slow = feed(lambda _: time.sleep(0.05), [(0,), (1,)], lambda: None)
    list(slow)
    assert 0.09 < feed.waited < 0.5
    busy = Feed()
    list(busy(lambda _: time.sleep(0.05), [(0,), (1,)], lambda: time.sleep(0.1)))  # the devices are busy for longer
    assert busy.waited < 0.02


def test_an_error_of_the_rows_is_raised_where_they_are_taken():
    def make(number: int) -> int:
        if number:
            raise ValueError("picture 7")
        return number

    rows = Feed()(make, [(0,), (1,), (2,)], lambda: None)
    assert next(rows) == 0
    with pytest.raises(ValueError, match="picture 7"):
        next(rows)


def moment(step: int, waited: float) -> Moment:
    return Moment(step, 100, step - 10, None, 640, 1.0, lambda batches: {}, {}, [], {}, waited)


def test_much_waiting_is_one_warning_with_what_to_try():
    speed, moments = (
        hooks.Speed(),
        [moment(step, waited) for step, waited in ((10, 0.9), (20, 0.1), (30, 0.5), (40, 0.9))],
    )
    for each in moments:
        speed(each)
    assert [len(each.warnings) for each in moments] == [0, 0, 1, 0]  # the first fills the pipeline
    assert "waited for data 50% of the time" in moments[2].warnings[0]
    assert "bench_data" in moments[2].warnings[0]
    assert speed.spent == {"speed/examples": 2560, "speed/seconds": 4.0, "speed/waited": pytest.approx(2.4)}
    assert hooks.Speed(speed.spent).waited == speed.waited
