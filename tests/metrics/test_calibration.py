"""Calibration against scipy, by hand, and on probabilities whose truth is known."""

import numpy as np
import pytest
from scipy import optimize, special, stats

from jaxrec.metrics import calibration


def confident(temperature: float, examples: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too large by a factor, and labels drawn from what they would be without it."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(examples, 5)) * 2
    label = np.array([rng.choice(5, p=p) for p in special.softmax(logits, axis=-1)])
    return np.float32(logits * temperature), label


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_one_that_scipy_finds_and_about_the_true_one(true):
    logits, label = confident(true)

    def nll(temperature: float) -> float:
        return -special.log_softmax(logits.astype(float) / temperature, axis=-1)[np.arange(len(label)), label].mean()

    wanted = optimize.minimize_scalar(nll, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-8}).x
    found = calibration.best_temperature(logits, label)
    assert found == pytest.approx(wanted, rel=1e-4)
    assert found == pytest.approx(true, rel=0.1)
    assert calibration.negative_log_likelihood(logits, label, found) == pytest.approx(nll(found), rel=1e-6)


def test_it_mends_the_calibration_error():
    logits, label = confident(3.0)
    before, after = (
        calibration.reliability(calibration.softmax(logits, temperature).max(-1), logits.argmax(-1) == label)
        for temperature in (1.0, calibration.best_temperature(logits, label))
    )
    assert before.error > 0.15
    assert after.error < 0.03


def test_where_all_answers_are_right_it_is_the_end_of_the_range():
    logits = np.float32([[2, 0], [0, 1]])
    assert calibration.best_temperature(logits, np.array([0, 1])) == pytest.approx(calibration.TEMPERATURES[0])
    assert calibration.best_temperature(logits, np.array([1, 0])) == pytest.approx(calibration.TEMPERATURES[1])


def test_reliability_equals_scipys_binned_statistic():
    rng = np.random.default_rng(1)
    confidence, correct = rng.uniform(0.1, 1, 500), rng.uniform(size=500) < 0.7
    found = calibration.reliability(confidence, correct)
    counts, edges, _ = stats.binned_statistic(confidence, confidence, "count", calibration.BINS, range=(0, 1))
    np.testing.assert_array_equal(found.examples, counts)
    for values, mine in ((confidence, found.confidence), (correct, found.accuracy)):
        means, _, _ = stats.binned_statistic(confidence, values, "mean", edges)
        np.testing.assert_allclose(mine[counts > 0], means[counts > 0])
    gaps = np.abs(found.accuracy - found.confidence)
    assert found.error == pytest.approx((gaps * counts).sum() / 500)
