"""The sides of a comparison: which runs are on each, whether they were measured on the same, what they answer."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from experiments.evaluation import Evaluation, evaluation_of
from experiments.stored import config_of, notes_of, result_of
from jaxrec import metrics
from jaxrec.errors import InputError
from jaxrec.metrics.calibration import softmax
from jaxrec.trees import differences, found_at


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
        return len(self.folders) > 1 and _is_fold(self.folders[0])

    @property
    def seeds(self) -> bool:
        """Whether the runs are one config under several seeds."""
        return len(self.folders) > 1 and not self.folds

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

    @property
    def measured(self) -> dict[str, float | np.ndarray]:
        """Its metrics, as an evaluation has them, but for the loss."""
        logits, label, every = self.logits, self.label, np.ones(len(self.ids), bool)
        if self.evaluation.several:
            found = metrics.MultilabelPredictions(logits, logits > 0, label, every).compute()
            return {"accuracy": float(((logits > 0) == label).mean()), **found}
        return {"accuracy": float(self.right.mean()), **metrics.Predictions(logits, label, every).compute()}


def side_of(name: str) -> Side:
    """Reads a run's folder, or a folder of the runs that `--seeds` or `cross_validate` has made.

    Raises:
      InputError: neither is there, a run is not finished, or the runs are not of one config.
    """
    folders = folders_of(name)
    configs = [config_of(each, "RUN") for each in folders]
    check_one_config(name, folders, configs)
    if missing := missing_folds(name, folders, configs):
        raise InputError(
            f"RUN = '{name}': not all of its folds are there, it lacks {missing}. Let the same command finish it first."
        )
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
    """The runs in a folder of several, in their order; what `--fresh` has moved aside has another name."""
    found = [each for each in folder.glob("*_*") if each.is_dir() and re.fullmatch(r"(seed|fold)_\d+", each.name)]
    return sorted([each for each in found if not _is_fold(each)] or found, key=_number)


def _is_fold(folder: pathlib.Path) -> bool:
    return folder.name.startswith("fold_")


def _number(folder: pathlib.Path) -> int:
    return int(folder.name.rpartition("_")[2])


def folds_of(config: Mapping[str, Any]) -> int:
    """Of how many folds a run holds one out, 1 for none."""
    return config.get("fold", {"of": 1})["of"]


def _fold(config: Mapping[str, Any]) -> int:
    """Which fold a run holds out."""
    return config.get("fold", {"number": 0})["number"]


def _without(config: Mapping[str, Any], *, seed: bool, fold: bool) -> dict[str, Any]:
    """A config without its seed, without the number of its fold, or without both."""
    found = {key: value for key, value in config.items() if key != "seed" or not seed}
    return {**found, "fold": {"of": folds_of(config)}} if fold and "fold" in config else found


def check_one_config(name: str, folders: Sequence[pathlib.Path], configs: Sequence[Mapping[str, Any]]) -> None:
    """Raises InputError where the runs of one folder differ in more than their seed or fold, or one is there twice."""
    if len(folders) == 1:
        return
    folds = _is_fold(folders[0])
    what = "fold" if folds else "seed"
    first, *others = (_without(config, seed=not folds, fold=folds) for config in configs)
    if any(other != first for other in others):
        raise InputError(f"RUN = '{name}': the runs in there differ in more than their {what}. Name them one by one.")
    found: dict[int, pathlib.Path] = {}
    for folder, config in zip(folders, configs, strict=True):
        number = _fold(config) if folds else config.get("seed")
        if number in found:
            raise InputError(
                f"RUN = '{name}': {found[number].name} and {folder.name} in there are both {what} {number}. Move one "
                "of them elsewhere."
            )
        found[number] = folder


def missing_folds(name: str, folders: Sequence[pathlib.Path], configs: Sequence[Mapping[str, Any]]) -> str:
    """Which folds of a cross-validation are not there, in words, or "" where all are or it is none."""
    if folders == [pathlib.Path(name)] or not _is_fold(folders[0]):
        return ""
    missing = sorted({*range(folds_of(configs[0]))} - {_fold(config) for config in configs})
    return ", ".join(f"fold_{number}" for number in missing)


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
    """Answers to different examples of one set as one, in the order of their ids.

    Raises:
      InputError: an example is answered twice.
    """
    ids = np.concatenate([one.ids for one in answers])
    different, times = np.unique(ids, return_counts=True)
    if (times > 1).any():
        raise InputError(
            f"{' and '.join(str(one.folder) for one in answers)} answer for the same examples, such as "
            f"{different[times > 1][0]}: they are not the folds of one cross-validation. Name one run."
        )
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


def differing(sides: Sequence[Side]) -> dict[str, list[Any]]:
    """What configs differ in: key -> its value on each side, None where a side has no such key.

    Seeds or folds are none where a side has several.
    """
    seeds, folds = any(side.seeds for side in sides), any(side.folds for side in sides)
    configs = [{"config": _without(side.config, seed=seeds, fold=folds)} for side in sides]
    keys = dict.fromkeys(key for config in configs for key, _, _ in differences(configs[0], config))
    return {key: [next(iter(found_at(config, key)), None) for config in configs] for key in keys}
