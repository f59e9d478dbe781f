"""Answers for pictures: a CSV with a row for each."""

import contextlib
import csv
import os
import pathlib
import sys
import time
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.inputs import named_pictures
from experiments.predictor import Predictor, load
from jaxrec.errors import InputError
from jaxrec.types import Count, Paths

PATIENCE = 10  # seconds between two lines of progress, where there is no terminal


def predict(*, run: str, images: Paths, out: str = "predictions.csv", top: Count = 1, uncertainty: bool = False) -> int:
    """Writes what a recogniser's run answers for pictures, a row for each, in the order in which they are named.

    The columns: path, class, probability; with `top` class_2, probability_2 and so on; of a run of several labels for
    each image `classes`, those of a probability above 0.5; with `uncertainty` the entropy, and of a run that was
    calibrated calibrated_probability, ..., and calibrated_entropy.

    Args:
      run: the folder of a run, finished or not: its chosen state, or its newest.
      images: files, folders (the pictures in them and below), globs, or `.npz` files (`x_test`, or else their
        first array of images).
      out: the file to write.
      top: how many classes, the most probable first.
      uncertainty: add the entropy, in nats, of the probabilities; of several labels the sum over the classes.

    Returns:
      The exit code: 1 where some pictures could not be read; each is a line on stderr.

    Raises:
      InputError: a word names no pictures, none of them can be read, `out` cannot be written, there is no such run, or
        it has diverged.

    Example:
      python launch.py predict --run=runs/photos photos/test --top=3
    """
    moments = [time.perf_counter()]
    pictures, again = named_pictures(images)
    with _written(pathlib.Path(out)) as stream:
        predictor = load(run, what="--run")
        if top > len(predictor.classes):
            raise InputError(f"--top={top}: this run tells {len(predictor.classes)} classes apart. Ask for fewer.")
        moments.append(time.perf_counter())
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(_head(predictor, top, uncertainty))
        done = bad = 0
        with _Progress(len(pictures)) as progress:
            for read in predictor.read(pictures):
                if read.pixels:
                    answers = _answers(predictor, predictor.of_batch(read.pixels), top, uncertainty)
                    rows.writerows([name, *answer] for name, answer in zip(read.names, answers, strict=True))
                    moments += [time.perf_counter()] * (len(moments) == 2)
                for line in read.bad:
                    progress.say(line)
                done, bad = done + len(read.names), bad + len(read.bad)
                progress.advance(done + bad)
        if not done:
            raise InputError(f"None of {bad:,} pictures could be read: {out} was not written.")
    restored, compiled, computed = np.diff([*moments, time.perf_counter()])
    print(
        f"{done:,} pictures by step {predictor.step} of {run}: {restored:.1f} s to restore it, {compiled:.1f} s to "
        f"compile, {computed:.1f} s to read and answer: {out}"
    )
    if again:
        print(f"{again:,} were named more than once, and are answered once.")
    if bad:
        print(f"{bad:,} could not be read, and are not in it: see above.")
    return 1 if bad else 0


def _head(predictor: Predictor, top: int, uncertainty: bool) -> list[str]:
    """The columns after the path."""
    ranks = ["", *(f"_{rank}" for rank in range(2, top + 1))]
    head = ["path", *(f"{column}{rank}" for rank in ranks for column in ("class", "probability"))]
    head += ["classes"] * predictor.several + ["entropy"] * uncertainty
    if uncertainty and predictor.temperature:
        head += [*(f"calibrated_probability{rank}" for rank in ranks), "calibrated_entropy"]
    return head


def _answers(predictor: Predictor, logits: np.ndarray, top: int, uncertainty: bool) -> Iterator[list[str]]:
    """The cells of each row after the path."""
    best = np.argsort(-logits, axis=-1, kind="stable")[:, :top]  # by logits, which differ where probabilities do not
    temperatures = [1.0, *([predictor.temperature] if uncertainty and predictor.temperature else [])]
    found = [predictor.probabilities(logits, temperature) for temperature in temperatures]
    for row, classes in enumerate(best):
        probabilities, *calibrated = (each[row] for each in found)
        cells = [cell for index in classes for cell in (predictor.classes[index], _number(probabilities[index]))]
        if predictor.several:
            cells.append(";".join(predictor.classes[index] for index in np.flatnonzero(probabilities > 0.5)))
        if uncertainty:
            cells.append(_number(entropy(probabilities, several=predictor.several)))
        for each in calibrated:
            cells += [*(_number(each[index]) for index in classes), _number(entropy(each, several=predictor.several))]
        yield cells


def entropy(probabilities: np.ndarray, *, several: bool = False) -> float:
    """The entropy in nats of probabilities [K]; of several labels, each there or not, the sum of theirs."""
    p = probabilities.astype(np.float64)
    p = np.stack([p, 1 - p]) if several else p
    return float(-np.sum(p * np.log(np.where(p > 0, p, 1))))


def _number(value: float) -> str:
    return f"{value:.6g}"


@contextlib.contextmanager
def _written(file: pathlib.Path) -> Iterator:
    """A text file that is there whole or not at all; whether it can be written is found out first."""
    target = pathlib.Path(os.path.realpath(file))  # a link stays one
    partial = target.with_name(f"{target.name}.partial")
    try:
        if target.is_dir():
            raise IsADirectoryError(21, "that is a folder")
        if target.exists() and not target.is_file():
            raise OSError(22, "a pipe or a device, which a file would replace")
        stream = partial.open("w", newline="", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"--out={file}: cannot be written ({error.strerror}). Name another file.") from None
    try:
        with stream:
            yield stream
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


class _Progress:
    """How many pictures are done, on stderr: a bar on a terminal, else a line now and then."""

    def __init__(self, total: int):
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        columns = BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("pictures"), TimeRemainingColumn()
        self._live = Progress(*columns, console=self._console, disable=not self._console.is_terminal, transient=True)
        self._task, self._total, self._last = self._live.add_task("", total=total), total, time.perf_counter()

    def say(self, line: str) -> None:
        print(line, file=sys.stderr) if self._live.disable else self._live.console.print(line)

    def advance(self, done: int) -> None:
        self._live.update(self._task, completed=done)
        if self._live.disable and time.perf_counter() - self._last > PATIENCE:
            self._last = time.perf_counter()
            print(f"{done:,} of {self._total:,} pictures", file=sys.stderr, flush=True)

    def __enter__(self) -> "_Progress":
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()
