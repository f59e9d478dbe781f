"""Alarms, each made to ring by a course of scalars, and silent at one that is well."""

import math
import re

import pytest

from jaxrec.engine.loop import Moment
from jaxrec.output.alarms import Watchman, discriminator_too_strong, divergence, mode_collapse


def well(steps: int = 30) -> list[dict]:
    """A course that wavers, with an evaluation at every second moment."""
    records = []
    for step in range(steps):
        waver = 1 + 0.3 * math.sin(step)
        record = {
            "train/d_loss": 0.6 * waver,
            "train/g_loss": -0.9 * waver,
            "train/d_gradient": 2.0 * waver,
            "train/g_gradient": 1.5 * waver,
            "train/d_accuracy": 0.7,
        }
        if step % 2:
            record |= {"samples/diversity": 0.3 * waver, "real/diversity": 0.35}
        records.append(record)
    return records


def with_(values: dict, moments: range) -> list[dict]:
    """The good course with other values at some moments, where it has such values."""
    records = well()
    for moment in moments:
        records[moment] |= {name: value for name, value in values.items() if name in records[moment]}
    return records


def collapsing() -> list[dict]:
    return with_({"samples/diversity": 0.05}, range(11, 30))


def solved() -> list[dict]:
    return with_({"train/d_accuracy": 1.0, "train/d_loss": 1e-4}, range(21, 30))


def exploding(name: str = "train/d_gradient") -> list[dict]:
    return with_({name: 1e4}, range(29, 30))


ALARMS = [
    (mode_collapse, collapsing, "two samples differ by 14% of .* Lower the generator's learning rate"),
    (discriminator_too_strong, solved, "100.0% of the pairs apart at a loss of 0.0001.*Lower the discriminator's"),
    (divergence, exploding, r"train/d_gradient is 1e\+04 in size, where it used to be .*Lower both learning rates"),
]


@pytest.mark.parametrize(("alarm", "course", "said"), ALARMS, ids=lambda value: getattr(value, "__name__", ""))
def test_an_alarm_rings_at_its_own_trouble_alone(alarm, course, said):
    text = alarm(course())
    assert re.search(said, text)
    assert "\n" not in text
    assert alarm(well()) is None
    assert alarm([]) is None
    for other, _, _ in ALARMS:
        assert other is alarm or other(course()) is None


@pytest.mark.parametrize("name", ["train/d_loss", "train/g_loss", "train/g_gradient"])
def test_every_loss_and_gradient_is_watched(name):
    assert name in divergence(exploding(name))
    records = exploding(name)
    records[-1][name] = -1e4  # a loss may go either way
    assert name in divergence(records)


def test_a_bad_start_rings_no_alarm():
    """Grey images at the first evaluations, a sure discriminator for some moments, a steep first gradient."""
    grey = with_({"samples/diversity": 0.01}, range(8))
    sure = with_({"train/d_accuracy": 1.0, "train/d_loss": 0.01}, range(4))
    steep = with_({"train/d_gradient": 1e4}, range(1))
    for records in (grey, sure, steep):
        for count in range(len(records)):
            assert [alarm(records[:count]) for alarm, _, _ in ALARMS] == [None] * 3


def test_a_wasserstein_critic_may_be_as_good_as_it_can():
    records = [r | {"train/d_accuracy": 1.0, "train/d_loss": -8.0} for r in well()]
    assert discriminator_too_strong(records) is None


def test_what_is_not_finite_or_not_there_is_passed_over():
    """A recorded None stands for NaN; a course without evaluations has no diversity."""
    records = [dict.fromkeys(record, None) for record in well()]
    assert [alarm(records) for alarm, _, _ in ALARMS] == [None] * 3
    assert [alarm([{"train/loss": 1.0}] * 30) for alarm, _, _ in ALARMS] == [None] * 3


def heard(records: list[dict], start: int = 0) -> list[list[str]]:
    """The warnings of each moment from `start` on, of a run that recorded what is before."""
    watchman = Watchman(records[:start])
    said = []
    for step, record in enumerate(records[start:], start=start):
        moment = Moment(step + 1, len(records), step, None, 1, 1.0, None, record, [])
        watchman(moment)
        said.append(moment.warnings)
    return said


def test_an_alarm_speaks_once_and_again_after_silence():
    records = solved() + well() + solved()
    said = heard(records)
    assert [step for step, warnings in enumerate(said) if warnings] == [25, 85]
    assert all(len(warnings) <= 1 for warnings in said)


@pytest.mark.parametrize("start", [10, 24, 25, 26, 60])
def test_a_resumed_run_warns_as_the_unbroken_one(start):
    records = solved() + well() + solved()
    assert heard(records, start) == heard(records)[start:]
