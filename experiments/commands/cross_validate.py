"""Cross-validation: as many runs as folds, each tested on the fold that it never saw."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.commands.repeat import spread, table_of_spread
from experiments.commands.run import run
from experiments.experiment import prepare
from experiments.sides import Answers, answers_of, pooled
from experiments.stored import POOLED, notes_of
from jaxrec.errors import InputError
from jaxrec.output.console import plain_console
from jaxrec.output.report import numbers, write_classes
from jaxrec.output.workdir import write_json
from jaxrec.types import Count


def cross_validate(config: Mapping[str, Any], workdir: pathlib.Path, *, folds: Count = 5, fresh: bool = False) -> int:
    """Carries a config out once for each fold of its train and validation examples, which is that run's test split.

    Each fold has each class in the same proportion, drawn by the config's seed. Validation is held out of the rest, as
    large a share as the config has it; it alone chooses the state and ends a run early. The data's own test split is
    not used. Runs that are finished are not run again, so the same command goes on where it stopped.

    Writes folds.json, mean and sample standard deviation of every metric over the runs. Of a recogniser also what each
    example was answered by the run that held it out: out_of_fold.npz (id, fold, label, logits, probability, classes),
    its metrics, and confusion_out_of_fold.csv and .png.

    Args:
      config: of a run, checked and complete.
      workdir: fold k is run in workdir/fold_<k>.
      folds: how many, at least 2.
      fresh: whether to move old runs aside first.

    Returns:
      The exit code.

    Raises:
      InputError, DivergedError: as `run`; also for fewer than 2 folds or more than examples, where the experiment takes
        none or the config names one, and where the runs would start from one that has learned from the same images.

    Example:
      python launch.py cross_validate --config=configs/digits_cnn.py --folds=10
    """
    if folds < 2:
        raise InputError(f"--folds={folds}: one fold is held out and the others are learned from. Use 2 or more.")
    if "fold" not in config:
        raise InputError(
            f"cross_validate sets config.fold, and {config['experiment']} takes none. Let its build take "
            "`fold: Fold = Fold()`, and give it to read_images."
        )
    if config["fold"]["of"] != 1:
        raise InputError(f"config.fold = {config['fold']}: cross_validate sets it for each run. Leave it out.")
    _check_start(config)
    if (workdir / "config.json").exists():
        raise InputError(f"--workdir={workdir} holds a run. Name another folder for a cross-validation.")
    folders = [workdir / f"fold_{number}" for number in range(folds)]
    for number, folder in enumerate(folders):
        print(f"Fold {number} of 0 to {folds - 1}", flush=True)
        run({**config, "fold": {"number": number, "of": folds}}, folder, fresh=fresh, layers=not number)
    found: dict[str, Any] = {"folds": folds, "metrics": spread(folders)}
    console = plain_console(soft_wrap=True)
    console.print(table_of_spread(found["metrics"], f"{folds} folds: test is the one that is held out"))
    if config["experiment"] == "classify":
        each = [answers_of(folder, "test") for folder in folders]
        answers = pooled(each)
        measured = answers.measured
        found[POOLED] = {"examples": len(answers.ids), **numbers(measured)}
        write_classes(workdir, POOLED, measured, answers.evaluation.notes)
        fold = np.concatenate([np.full(len(one.ids), number) for number, one in enumerate(each)])
        _keep(workdir / f"{POOLED}.npz", answers, fold[np.argsort(np.concatenate([one.ids for one in each]))])
        console.print(
            f"{len(answers.ids):,} examples, each answered by the run that held it out: "
            f"{100 * found[POOLED]['accuracy']:.2f} % are right. {POOLED}.npz has the answers"
        )
    write_json(workdir / "folds.json", found)
    console.print(f"The runs: {workdir}")
    return 0


def _check_start(config: Mapping[str, Any]) -> None:
    """Raises InputError where the runs would start from one that has seen what each of them holds out."""
    start = config["train"]["init_from"]
    if not start or not pathlib.Path(start).is_dir():  # where none is there, the first run says so
        return
    noted = notes_of(pathlib.Path(start), "config.train.init_from").get("contents")
    own = prepare(config)[0].notes.get("contents")
    if not noted or not own or noted.get("image") == own.get("image"):
        raise InputError(
            f"config.train.init_from = '{start}': that run may have learned from the very examples that are held out "
            "here, so their test would be none. Leave it out, or name a run of other images."
        )


def _keep(file: pathlib.Path, answers: Answers, fold: np.ndarray) -> None:
    """Writes answers, whole or not at all."""
    partial = file.with_suffix(".partial.npz")
    np.savez(
        partial,
        id=answers.ids,
        fold=fold,
        label=answers.label,
        logits=answers.logits,
        probability=answers.probability.astype(np.float32),
        classes=np.array(answers.evaluation.notes["classes"]),
    )
    partial.replace(file)
