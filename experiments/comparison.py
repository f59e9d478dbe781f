"""What runs are compared by: that they were measured on the same examples, and what the data can tell apart."""

import itertools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats

from experiments.evaluation import Evaluation, evaluation_of
from experiments.stored import config_of, notes_of, result_of
from jaxrec.errors import InputError
from jaxrec.metrics.calibration import softmax
from jaxrec.trees import differences

LEVEL = 0.95  # of the intervals; what is less likely than 1 - LEVEL is called a difference
RESAMPLES = 2000
FEWEST = 3  # runs of which an interval of the mean is given
FLOOR = "real_"  # how metrics begin that are of real images in the place of generated ones


class Side(NamedTuple):
    """What stands on one side of a comparison: a run, the same config under several seeds, or a cross-validation.

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

    @property
    def folds(self) -> bool:
        """Whether the runs are those of a cross-validation, which together are tested on each example once."""
        return len(self.folders) > 1 and _folds(self.config) > 1

    def values(self, split: str, metric: str) -> np.ndarray:
        """A metric of each run, [runs]; NaN where a run has none."""
        found = [result["metrics"].get(split, {}).get(metric) for result in self.results]
        return np.array([np.nan if value is None else value for value in found])


class Answers(NamedTuple):
    """What a recogniser answers to a split.

    Attributes:
      folder: of its run.
      evaluation: that was asked: config, notes, data.
      logits: [N, K].
      label: [N], or [N, K] of several labels for an image.
      ids: of the examples, [N].
    """

    folder: pathlib.Path
    evaluation: Evaluation
    logits: np.ndarray
    label: np.ndarray
    ids: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Which are right, bool [N]; of several labels for an image, where all of them are."""
        if self.evaluation.several:
            return ((self.logits > 0) == self.label).all(-1)
        return self.logits.argmax(-1) == self.label

    @property
    def probability(self) -> np.ndarray:
        """Of each class, float64 [N, K]; of several labels for an image, of each by itself."""
        return special.expit(self.logits.astype(np.float64)) if self.evaluation.several else softmax(self.logits)


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
    """Reads a run's folder, or a folder of the runs that `--seeds` or `cross_validate` has made.

    Raises:
      InputError: neither is there, a run is not finished, or the runs are not of one config.
    """
    folders = folders_of(name)
    configs = [config_of(each, "RUN") for each in folders]
    if any(_one_config(config) != _one_config(configs[0]) for config in configs):
        raise InputError(
            f"RUN = '{name}': the runs in there differ in more than their seed or fold. Name them one by one."
        )
    if folders != [pathlib.Path(name)] and folders[0].name.startswith("fold_") and len(folders) < _folds(configs[0]):
        raise InputError(f"RUN = '{name}': not all of its folds are there. Let the same command finish it first.")
    results = [result_of(each) for each in folders]
    for each, result in zip(folders, results, strict=True):
        if result is None:
            raise InputError(f"RUN = '{each}': that run is not finished. Let the same command finish it first.")
    return Side(name, folders, configs[0], notes_of(folders[0], "RUN"), results)


def folders_of(name: str) -> list[pathlib.Path]:
    """A run's folder, or those of the runs that `--seeds` or `cross_validate` has made in one.

    Raises:
      InputError: neither is there.
    """
    folder = pathlib.Path(name)
    folders = [folder] if (folder / "config.json").exists() else _in(folder)
    if not folders:
        raise InputError(f"RUN = '{name}': no run is there, nor seed_... or fold_... of several. Name a run's folder.")
    return folders


def _in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The runs in a folder of several, in their order."""
    return sorted([*folder.glob("seed_*")] or [*folder.glob("fold_*")], key=_by_number)


def _folds(config: Mapping[str, Any]) -> int:
    """Of how many folds a run holds one out, 1 for none."""
    return config.get("fold", {"of": 1})["of"]


def _one_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the runs of one folder have in common."""
    apart = {"fold": {"number": 0, "of": _folds(config)}} if "fold" in config else {}
    return {**config, "seed": 0, **apart}


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


def answers_of(folder: pathlib.Path, split: str) -> Answers:
    """What a recogniser's run answers to a split of its data, by the evaluation that measured it."""
    found = evaluation_of(folder, "RUN")
    passes = found.batches(split)
    rows = np.concatenate([passes.host(step)["id"] for step in range(passes.per_pass)])
    logits, label = found.answers(passes)
    return Answers(folder, found, logits, label, rows[rows >= 0])


def answers_of_side(side: Side, split: str) -> list[Answers]:
    """What the runs of a side answer; those of a cross-validation together, for what each of them held out.

    Raises:
      InputError: it is not what they held out that is asked for.
    """
    if side.folds and split != "test":
        raise InputError(
            f"--split={split}: a cross-validation answers for what each run held out, its test. Leave it out."
        )
    found = [answers_of(folder, split) for folder in side.folders]
    return [pooled(found)] if side.folds else found


def pooled(answers: Sequence[Answers]) -> Answers:
    """Answers to different examples of one set as one, in the order of their ids."""
    ids = np.concatenate([one.ids for one in answers])
    order = np.argsort(ids, kind="stable")
    logits, label = (
        np.concatenate(rows)[order] for rows in zip(*((one.logits, one.label) for one in answers), strict=True)
    )
    return answers[0]._replace(ids=ids[order], logits=logits, label=label)


def right_of(sides: Mapping[str, Sequence[Answers]]) -> dict[str, np.ndarray]:
    """Which answers of the runs of each side are right, bool [runs, N], on the same examples.

    Raises:
      InputError: the examples are not the same.
    """
    first, *_ = sides
    ids = {name: answers[0].ids for name, answers in sides.items()}
    for name, own in ids.items():
        if not np.array_equal(ids[first], own):
            raise InputError(
                f"{first} and {name} were measured on other images of the same data, {len(ids[first]):,} and "
                f"{len(own):,} of them. Compare runs of the same split."
            )
    return {name: np.stack([one.right for one in answers]) for name, answers in sides.items()}


def metrics_of(side: Side, split: str) -> dict[str, dict[str, Any]]:
    """Each metric of a side: how many runs have it, mean, sample deviation, and from `FEWEST` runs on its interval."""
    names = dict.fromkeys(name for result in side.results for name in result["metrics"].get(split, ()))
    found = {}
    for name in names:
        values = side.values(split, name)
        values = values[np.isfinite(values)]
        few = len(values) < FEWEST
        found[name] = {
            "n": len(values),
            "mean": float(values.mean()) if len(values) else None,
            "std": float(values.std(ddof=1)) if len(values) > 1 else None,
            "interval": None if few else interval(values)[1:],
        }
    return found


def in_order(names: Iterable[str], side: Side) -> list[str]:
    """Names of metrics in the order of a table: the headline first, and each floor below what it is the floor of."""
    names = list(names)
    headline = [name for name in side.results[0].get("headline", ()) if name in names]
    measured = [name for name in dict.fromkeys([*headline, *names]) if not name.startswith(FLOOR)]
    return [each for name in measured for each in (name, f"{FLOOR}{name}") if each in names]


def cell(of: Mapping[str, Any] | None) -> str:
    """What `metrics_of` says of a metric, as a table shows it."""
    if of is None or of["mean"] is None:
        return "-"
    deviation = "" if of["std"] is None else f" ± {of['std']:.4f}"
    return f"{of['mean']:{'.4f' if abs(of['mean']) < 1e7 else '.4g'}}{deviation}" + (
        "" if of["interval"] is None else " [{:.4f}, {:.4f}]".format(*of["interval"])
    )


def differing(sides: Sequence[Side]) -> dict[str, list[Any]]:
    """What configs differ in: key -> its value on each side. Seed and fold are none where a side has several."""
    several = any(len(side.folders) > 1 for side in sides)
    apart = ("seed", "fold") if several else ()
    configs = [{key: value for key, value in side.config.items() if key not in apart} for side in sides]
    found: dict[str, list[Any]] = {}
    for place, config in enumerate(configs):
        for key, old, new in differences(configs[0], config, "config"):
            found.setdefault(key, [old] * len(sides))[place] = new
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


def _by_number(folder: pathlib.Path) -> tuple[int, str]:
    number = folder.name.rpartition("_")[2]
    return (int(number) if number.isdigit() else 0), folder.name
