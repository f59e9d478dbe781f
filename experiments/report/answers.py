"""What the networks of runs say for a page: which classes they take for each other, and their worst mistakes."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.commands.explain import Chosen, data_of, floats_of, picked, sureness, wanted_of
from experiments.explained import Subject, subject_of
from experiments.heat_maps import treated
from experiments.report.pictures import Picture, examples
from experiments.sides import Answers
from experiments.stored import weights_of
from jaxrec.data.batches import Dataset

METHODS = ("integrated_gradients", "grad_cam", "rollout", "occlusion", "row_by_row", "squared_error")  # by default
PER_CELL = (24, 12, 6, 3, 1)  # pictures of a cell: as many as fit for all cells


class Shown(NamedTuple):
    """An example of a cell.

    Attributes:
      id: in the data set.
      probability: of the class that was answered.
    """

    id: int
    probability: float


class Cell(NamedTuple):
    """The examples of one class that were taken for one class."""

    true: int
    answer: int
    count: int
    shown: Sequence[Shown]


class Confusion(NamedTuple):
    """How often each class is taken for each.

    Attributes:
      classes: their names.
      counts: [K, K], true class by answer.
      cells: those that are not empty, with examples where there are pictures of any.
      pictures: id -> data URI.
    """

    classes: Sequence[str]
    counts: np.ndarray
    cells: Sequence[Cell]
    pictures: Mapping[int, str]


class Mistake(NamedTuple):
    """An example of the worst.

    Attributes:
      id: in the data set.
      said: of it, in words.
      rows: what is shown of it: title -> data URI.
    """

    id: int
    said: str
    rows: Mapping[str, str]


class Seen(NamedTuple):
    """What is shown of a run besides its numbers.

    Attributes:
      split: of the examples.
      confusion: None where there is none.
      mistakes: the worst first.
      by_class: rows of a table, its head first; of several runs that of the same examples as the confusion.
      drawn: the pictures of its folder.
      missing: lines that say what is not shown, and why.
    """

    split: str
    confusion: Confusion | None
    mistakes: Sequence[Mistake]
    by_class: Sequence[Sequence[str]]
    drawn: Sequence[Picture]
    missing: Sequence[str]


def confusion_of(answers: Answers, most: int) -> Confusion:
    """Of a recogniser whose images have one label each, with examples in `most` bytes."""
    found, classes = answers.evaluation, list(map(str, answers.evaluation.notes["classes"]))
    probabilities = answers.probability
    answer = probabilities.argmax(-1)
    sure = probabilities.max(-1)
    counts = np.zeros((len(classes),) * 2, int)
    np.add.at(counts, (answers.label, answer), 1)
    order = np.lexsort((np.where(answer == answers.label, sure, -sure), answer, answers.label))
    edges = np.flatnonzero(np.diff(answers.label[order] * len(classes) + answer[order])) + 1
    rows = np.split(order, edges) if len(order) else []  # of a cell: the surest mistakes, the least sure right answers
    pictures: dict[int, str] = {}
    for each in PER_CELL:
        wanted = [row[:each] for row in rows]
        ids = np.sort(answers.ids[np.concatenate(wanted)])
        pictures = dict(zip(ids.tolist(), examples(floats_of(found.dataset.image[ids])), strict=True))
        if sum(map(len, pictures.values())) <= most:
            break
    else:
        wanted, pictures = [row[:0] for row in rows], {}
    cells = [
        Cell(
            int(answers.label[row[0]]),
            int(answer[row[0]]),
            len(row),
            [Shown(int(answers.ids[place]), float(sure[place])) for place in shown],
        )
        for row, shown in zip(rows, wanted, strict=True)
    ]
    return Confusion(classes, counts, cells, pictures)


def counted(rows: Sequence[Sequence[str]]) -> Confusion | None:
    """A confusion without pictures, from the rows of the CSV that the run has left."""
    try:
        classes, counts = rows[0][1:], np.array([row[1:] for row in rows[1:]], int)
    except (IndexError, ValueError):  # there is none, or it is damaged
        return None
    if counts.shape != (len(classes),) * 2:
        return None
    cells = [Cell(int(true), int(answer), int(counts[true, answer]), []) for true, answer in np.argwhere(counts)]
    return Confusion(classes, counts, cells, {})


def mistakes_of(answers: Answers, count: int, methods: Sequence[str] | None) -> list[Mistake]:
    """The wrong answers of a recogniser, the surest first, with maps that explain them.

    Raises:
      InputError: the network has no such map.
    """
    found, folder = answers.evaluation, answers.folder
    worth = np.asarray(sureness(answers.probability, answers.label))
    worst = np.argsort(worth, kind="stable")[: min(count, int((worth < 0).sum()))]
    subject = subject_of(found.config, found.notes, *weights_of(folder, "RUN")[:2])
    wanted = _methods(subject, methods)
    if not len(worst):
        return []
    classes, answer = found.notes["classes"], answers.logits[worst].argmax(-1)

    def said(place: int, own: int) -> str:
        true = np.flatnonzero(answers.label[place]) if found.several else [answers.label[place]]
        names = " and ".join(str(classes[label]) for label in true) or "none"
        return f"{names}, taken for {classes[own]} with {-worth[place]:.2f}"

    chosen = Chosen((), found.dataset.image[answers.ids[worst]], None, answers.ids[worst])
    return _explained(subject, chosen, answer, wanted, list(map(said, worst, answer)))


def badly_made(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    notes: Mapping[str, Any],
    split: str,
    count: int,
    methods: Sequence[str] | None,
) -> list[Mistake]:
    """The images that an autoencoder's or a VAE's run reconstructs worst.

    Raises:
      InputError: the run does neither, has no checkpoint, or its data are not there.
    """
    own: Dataset = data_of(folder, config, notes)
    subject = subject_of(config, {**notes, "shape": own.image.shape[1:]}, *weights_of(folder, "RUN")[:2])
    chosen = picked(subject, own, split, "wrong", count, 0)
    label = np.zeros(len(chosen.image), np.int32) if chosen.label is None else chosen.label
    reconstructed = jax.jit(subject.answers)(floats_of(chosen.image), label)["reconstruction"]
    error = np.square(np.asarray(reconstructed) - floats_of(chosen.image)).mean((1, 2, 3))
    return _explained(
        subject, chosen, label, _methods(subject, methods), [f"squared error {each:.4f}" for each in error]
    )


def _methods(subject: Subject, methods: Sequence[str] | None) -> Sequence[str]:
    return wanted_of(subject, methods or [name for name in METHODS if name in subject.maps])


def _explained(
    subject: Subject, chosen: Chosen, target: np.ndarray, wanted: Sequence[str], said: Sequence[str]
) -> list[Mistake]:
    """Mistakes, each with what is shown of it."""
    image = floats_of(chosen.image)
    found: Mapping[str, np.ndarray] = jax.device_get(jax.jit(subject.answers)(image, target))
    maps = {name: _whole(subject.maps[name], image, target) for name in wanted}
    rows = {title: examples(images) for title, images in treated(image, found, maps).items()}
    return [
        Mistake(int(number), text, {title: sources[place] for title, sources in rows.items()})
        for place, (number, text) in enumerate(zip(chosen.ids, said, strict=True))
    ]


def _whole(method: Callable[..., Any], image: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(method)(image, target), np.float32)
