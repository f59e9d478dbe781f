"""What runs are compared by: that they were measured on the same examples, and what the data can tell apart."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from experiments.evaluation import evaluation_of
from experiments.stored import config_of, notes_of, result_of
from jaxrec.errors import InputError

LEVEL = 0.95  # of the intervals; what is less likely than 1 - LEVEL is called a difference
RESAMPLES = 2000
FEWEST = 3  # runs of which an interval of the mean is given


class Side(NamedTuple):
    """What stands on one side of a comparison: a run, or the same config under several seeds.

    Attributes:
      name: as the user has written it.
      folders: of the runs.
      config: of the first of them.
      notes: of its data, likewise.
      results: result.json of each.
    """

    name: str
    folders: Sequence[pathlib.Path]
    config: Mapping[str, Any]
    notes: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]]

    def values(self, split: str, metric: str) -> np.ndarray:
        """A metric of each run, [runs]; NaN where a run has none."""
        found = [result["metrics"].get(split, {}).get(metric) for result in self.results]
        return np.array([np.nan if value is None else value for value in found])


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


def side_of(name: str) -> Side:
    """Reads a run's folder, or a folder of the runs that `--seeds` has made.

    Raises:
      InputError: neither is there, a run is not finished, or the seeds are not of one config.
    """
    folder = pathlib.Path(name)
    folders = [folder] if (folder / "config.json").exists() else sorted(folder.glob("seed_*"), key=_by_number)
    if not folders:
        raise InputError(f"RUN = '{name}': no run is there, nor seed_... of several. Name a run's folder.")
    configs = [config_of(each, "RUN") for each in folders]
    if any({**config, "seed": 0} != {**configs[0], "seed": 0} for config in configs):
        raise InputError(f"RUN = '{name}': the runs in there differ in more than their seed. Name them one by one.")
    results = [result_of(each) for each in folders]
    for each, result in zip(folders, results, strict=True):
        if result is None:
            raise InputError(f"RUN = '{each}': that run is not finished. Let the same command finish it first.")
    return Side(name, folders, configs[0], notes_of(folders[0], "RUN"), results)


def check_comparable(sides: Sequence[Side], split: str) -> None:
    """Raises InputError where runs are of different kinds, or were not measured alike on the same examples."""
    first = sides[0]
    for side in sides:
        for result, folder in zip(side.results, side.folders, strict=True):
            if split not in result["metrics"]:
                raise InputError(f"RUN = '{folder}': measured on {', '.join(result['metrics'])}, not on {split}.")
        if side.config["experiment"] != first.config["experiment"]:
            kinds = f"'{first.config['experiment']}' and '{side.config['experiment']}'"
            raise InputError(f"{first.name} and {side.name} are runs of {kinds}: they have no metrics in common.")
        for what, key in (("data", "contents"), ("classes", "classes"), ("features", "features")):
            if side.notes.get(key) != first.notes.get(key):
                raise InputError(
                    f"{first.name} and {side.name} have other {what}, as their data.json say: their numbers are of "
                    "different things. Compare runs that were measured on the same."
                )
        recognises = first.config["experiment"] == "classify"  # its very examples are looked at later
        if not recognises and side.notes.get("splits") != first.notes.get("splits"):
            raise InputError(f"{first.name} and {side.name} were measured on other splits of the same data.")


def right_of(side: Side, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Which answers of recognisers are right, bool [runs, N], and the ids of the examples, [N].

    Of several labels for an image, where all of them are.
    """
    right, ids = [], np.zeros(0)
    for folder in side.folders:
        found = evaluation_of(folder, "RUN")
        passes = found.batches(split)
        rows = np.concatenate([passes.host(step)["id"] for step in range(passes.per_pass)])
        logits, label = found.answers(passes)
        right.append(((logits > 0) == label).all(-1) if found.several else logits.argmax(-1) == label)
        ids = rows[rows >= 0]
    return np.stack(right), ids


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


def _by_number(folder: pathlib.Path) -> tuple[int, str]:
    number = folder.name.rpartition("_")[2]
    return (int(number) if number.isdigit() else 0), folder.name
