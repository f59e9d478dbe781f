"""Schedules in shares of the run against their closed forms."""

import functools

import numpy as np
import pytest

from jaxrec.optim.schedules import step_decay, warmup_cosine, warmup_linear


def rates(schedule, steps: int) -> np.ndarray:
    return np.array([float(schedule(step)) for step in range(steps)])


@pytest.mark.parametrize("end", [0.0, 0.25])
@pytest.mark.parametrize(
    ("schedule", "fall"),
    [(warmup_cosine, lambda share: (1 + np.cos(np.pi * share)) / 2), (warmup_linear, lambda share: 1 - share)],
    ids=["cosine", "linear"],
)
def test_every_step_of_a_rise_and_a_fall(schedule, fall, end):
    """100 steps, 20 of them rising: 0 on the first, the peak on step 20, and the end one step behind the last."""
    step = np.arange(100)
    falling = 0.3 * (end + (1 - end) * fall((step - 20) / 80))
    expected = np.where(step < 20, 0.3 * step / 20, falling)
    found = schedule(0.3, 100, warmup=0.2, end=end)
    np.testing.assert_allclose(rates(found, 100), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found(100), 0.3 * end, atol=1e-7)
    np.testing.assert_allclose(found(60), 0.3 * (1 + end) / 2, rtol=1e-5)  # half-way down


@pytest.mark.parametrize("schedule", [warmup_cosine, warmup_linear, step_decay])
def test_a_shorter_run_has_the_same_shape(schedule):
    whole, half = rates(schedule(1.0, 80, warmup=0.1), 80), rates(schedule(1.0, 40, warmup=0.1), 40)
    np.testing.assert_allclose(half, whole[::2], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("schedule", [warmup_cosine, warmup_linear, step_decay])
def test_without_a_warm_up_the_first_step_is_at_the_peak(schedule):
    assert rates(schedule(0.3, 10, warmup=0.0), 10).argmax() == 0
    np.testing.assert_allclose(schedule(0.3, 10, warmup=0.0)(0), 0.3, rtol=1e-6)


@pytest.mark.parametrize("schedule", [warmup_cosine, warmup_linear, functools.partial(step_decay, milestones=())])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_warm_up_leaves_the_shortest_run_a_step_at_the_peak(schedule, steps):
    found = rates(schedule(0.3, steps, warmup=0.99), steps)
    np.testing.assert_allclose(found, {1: [0.3], 2: [0, 0.3], 3: [0, 0.15, 0.3]}[steps], rtol=1e-6)


def test_steps_fall_at_their_milestones():
    found = rates(step_decay(0.5, 40, milestones=(0.5, 0.75), factor=0.1), 40)
    np.testing.assert_allclose(found, np.repeat([0.5, 0.05, 0.005], [20, 10, 10]), rtol=1e-5)


def test_milestones_of_a_short_run_may_be_one_step():
    found = rates(step_decay(1.0, 4, milestones=(0.5, 0.55), factor=0.5), 4)
    np.testing.assert_allclose(found, [1, 1, 0.25, 0.25], rtol=1e-6)


def test_a_milestone_within_the_warm_up_lowers_the_rest_of_it():
    found = rates(step_decay(1.0, 8, milestones=(0.25,), factor=0.5, warmup=0.5), 8)
    np.testing.assert_allclose(found, [0, 0.25, 0.25, 0.375, 0.5, 0.5, 0.5, 0.5], rtol=1e-6)
