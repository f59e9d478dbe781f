"""Means, intervals and paired tests: what the data can tell apart."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from experiments.sides import Side

LEVEL = 0.95  # of the intervals; what is less likely than 1 - LEVEL is called a difference
RESAMPLES = 2000
FEWEST = 3  # runs of which an interval of the mean is given


class Interval(NamedTuple):
    """A mean, and where it lies in `LEVEL` of the resamples."""

    mean: float
    low: float
    high: float


class Verdict(NamedTuple):
    """What the data say about two recognisers.

    Attributes:
      difference: of the accuracies, the first minus the second, and its interval over images.
      alone: on how many images one alone is right, the first's and the second's, of a run against a run.
      exact: McNemar's exact p, likewise.
      seeds: p of Welch's t-test of the accuracies of the runs, where there are several on both sides.
    """

    difference: Interval
    alone: tuple[int, int] | None
    exact: float | None
    seeds: float | None


def metrics_of(side: Side, split: str) -> dict[str, dict[str, Any]]:
    """Each metric of a side: how many runs have it, mean, sample deviation, and of `FEWEST` seeds or more its interval.

    Of folds there is no interval of the mean: their runs have learned from mostly the same examples (Bengio and
    Grandvalet, 2004).
    """
    names = dict.fromkeys(name for result in side.results for name in result["metrics"].get(split, ()))
    found = {}
    for name in names:
        values = side.values(split, name)
        values = values[np.isfinite(values)]
        none = side.folds or len(values) < FEWEST
        found[name] = {
            "n": len(values),
            "mean": float(values.mean()) if len(values) else None,
            "std": float(values.std(ddof=1)) if len(values) > 1 else None,
            "interval": None if none else interval(values)[1:],
        }
    return found


def interval(values: np.ndarray) -> Interval:
    """The mean of values [N] and its percentile bootstrap interval (Efron, 1979); the same each time."""
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, batch=50, confidence_level=LEVEL, method="percentile", rng=0
    ).confidence_interval
    return Interval(float(np.mean(values)), float(found.low), float(found.high))


def verdict(first: np.ndarray, second: np.ndarray) -> Verdict:
    """Compares answers that are right, bool [runs, N], of two sides on the same N images.

    McNemar's test is exact: which of two networks is right where one alone is, is a coin's throw if both are equally
    good (McNemar, 1947). The interval resamples images, and means over the runs of a side.
    """
    difference = interval(first.mean(0) - second.mean(0))
    alone = exact = seeds = None
    if len(first) == len(second) == 1:
        alone = int((first & ~second).sum()), int((second & ~first).sum())
        exact = float(stats.binomtest(alone[0], sum(alone)).pvalue) if sum(alone) else 1.0
    accuracies = first.mean(1), second.mean(1)
    if min(map(len, accuracies)) > 1 and sum(each.std() for each in accuracies) > 0:
        seeds = float(stats.ttest_ind(*accuracies, equal_var=False).pvalue)
    return Verdict(difference, alone, exact, seeds)


def verdicts(right: Mapping[str, np.ndarray]) -> dict[tuple[str, str], Verdict]:
    """The verdict on each pair of sides, its p corrected for the number of pairs (Holm, 1979)."""
    pairs = list(itertools.combinations(right, 2))
    found = [verdict(right[first], right[second]) for first, second in pairs]
    for name in ("exact", "seeds"):
        known = [place for place, each in enumerate(found) if getattr(each, name) is not None]
        corrected = holm(np.array([getattr(found[place], name) for place in known]))
        for place, p in zip(known, corrected.tolist(), strict=True):
            found[place] = found[place]._replace(**{name: p})
    return dict(zip(pairs, found, strict=True))


def holm(p: np.ndarray) -> np.ndarray:
    """p [tests], such that with all tests together a false alarm is no more likely than with one (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected
