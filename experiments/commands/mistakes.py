"""What a recogniser gets wrong: its worst losses, the classes that it confuses, and labels that are likely errors."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from experiments.commands.explain import floats_of
from experiments.heat_maps import rgb_of
from experiments.sides import Answers, answers_of, answers_of_side, folders_of, side_of
from jaxrec.errors import InputError
from jaxrec.metrics.calibration import softmax
from jaxrec.metrics.label_errors import label_errors
from jaxrec.output.console import plain_console
from jaxrec.output.pictures import captioned, contact_sheet
from jaxrec.output.report import write_csv
from jaxrec.output.workdir import check_writable
from jaxrec.types import Count

ACROSS = 8  # images of a pair that are shown


class Pair(NamedTuple):
    """Examples of one class that were taken for another."""

    label: int
    answer: int
    places: np.ndarray  # among the answers, the surest first


def mistakes(
    *,
    run: str,
    split: Literal["train", "validation", "test"] = "test",
    count: Count = 24,
    pairs: Count = 6,
    out: str | None = None,
) -> int:
    """Writes tables (.csv) and pictures (.png) of what a recogniser gets wrong, and says what stands out.

    <out>: the examples of the largest losses. <out>_pairs: the classes that are taken for others, and such examples.
    <out>_labels: the examples whose label is likely an error (`jaxrec.metrics.label_errors`).

    Args:
      run: the folder of a recogniser's run, in the state that it has chosen, or its newest; or that of a
        cross-validation, in which each example was held out once.
      split: of the run's data. Of train no labels are suspected: the network has learned them.
      count: how many losses there are in table and picture, and how many labels in the picture.
      pairs: how many pairs of classes are in the picture.
      out: the files' name without its ending; mistakes_<split> in the run's folder by default.

    Returns:
      The exit code.

    Raises:
      InputError: there is no such run or split, an image has several labels, or `out` cannot be written.

    Example:
      python launch.py mistakes --run=runs/digits_cnn --count=12
    """
    folder = pathlib.Path(run)
    file = pathlib.Path(out) if out else folder / f"mistakes_{split}"
    if folder.is_dir():
        check_writable(file.with_suffix(".csv"), "--out")  # found out before anything is computed
    answers = _answers(run, split)
    found, classes = answers.evaluation, answers.evaluation.notes["classes"]
    if found.several:
        raise InputError(f"--run={run}: its images have several labels each. mistakes is for one label for each image.")
    if not np.isfinite(answers.logits).all():
        raise InputError(f"--run={run}: its answers are not finite, it has diverged. Take another run.")
    images = found.dataset.image
    probability, label = softmax(answers.logits), answers.label
    answer, own = probability.argmax(1), np.take_along_axis(probability, label[:, None], 1)[:, 0]
    loss = -np.log(np.maximum(own, np.finfo(np.float64).tiny))

    def row(place: int) -> list[object]:
        sure = f"{probability[place, answer[place]]:.4g}"
        return [answers.ids[place], classes[label[place]], classes[answer[place]], f"{own[place]:.4g}", sure]

    def drawn(places: Sequence[int] | np.ndarray) -> np.ndarray:
        return rgb_of(floats_of(images[answers.ids[places]]))

    head = ["id", "label", "answer", "probability of label", "probability of answer"]
    worst = np.argsort(-loss, kind="stable")[:count]
    write_csv(_named(file, ".csv"), [*head, "loss"], [[*row(place), f"{loss[place]:.4g}"] for place in worst])
    captions = [
        f"{classes[label[place]]}\nsays {classes[answer[place]]}\nloss {loss[place]:.2f}\nid {answers.ids[place]}"
        for place in worst
    ]
    captioned(_named(file, ".png"), drawn(worst), captions)
    confused = _pairs(label, answer, own)
    examples = np.bincount(label, minlength=len(classes))
    table = [
        [
            classes[pair.label],
            classes[pair.answer],
            len(pair.places),
            f"{len(pair.places) / examples[pair.label]:.4g}",
            " ".join(map(str, answers.ids[pair.places])),
        ]
        for pair in confused
    ]
    write_csv(_named(file, "_pairs.csv"), ["label", "answer", "count", "share of label", "ids"], table)
    if confused:
        _draw_pairs(_named(file, "_pairs.png"), confused[:pairs], classes, drawn)
    console = plain_console(soft_wrap=True)
    wrong = int((answer != label).sum())
    console.print(
        f"{len(label):,} examples, {wrong:,} of them wrong, the largest loss {loss[worst[0]]:.2f}: {file}.png"
    )
    said = [f"{classes[pair.label]} taken for {classes[pair.answer]} {len(pair.places)}" for pair in confused[:3]]
    if said:
        console.print(f"Confused most often: {', '.join(said)}: {file}_pairs.png")
    if split == "train":
        console.print("No labels are suspected: the network has learned them. Ask a cross-validation.")
        return 0
    errors, seems = label_errors(probability, label)
    table = [[*row(place), classes[seem]] for place, seem in zip(errors, seems, strict=True)]
    write_csv(_named(file, "_labels.csv"), [*head, "seems"], table)
    console.print(f"{len(errors):,} labels are likely errors" + (f": {file}_labels.png" if len(errors) else "."))
    if len(errors):
        shown = [
            f"{classes[label[place]]}\nseems {classes[seem]}\n{own[place]:.2f} to {probability[place, seem]:.2f}\n"
            f"id {answers.ids[place]}"
            for place, seem in zip(errors[:count], seems, strict=False)
        ]
        captioned(_named(file, "_labels.png"), drawn(errors[:count]), shown)
    return 0


def _answers(run: str, split: str) -> Answers:
    """What a run answers, or what the runs of a cross-validation answer to what each of them held out."""
    folders = folders_of(run)
    if folders == [pathlib.Path(run)]:
        if split == "test" and folders[0].is_dir() and not (folders[0] / "result.json").exists():
            raise InputError(
                f"--run={run}: is not finished, and test is read once, after training. Take --split=validation."
            )
        return answers_of(folders[0], split)
    side = side_of(run)
    if side.seeds:
        raise InputError(f"--run={run}: several runs under other seeds. Name one of them, such as {folders[0]}.")
    return answers_of_side(side, split)[0]


def _pairs(label: np.ndarray, answer: np.ndarray, own: np.ndarray) -> list[Pair]:
    """The pairs of classes that are confused, the most frequent first; of each the least probable label first."""
    wrong = np.flatnonzero(answer != label)
    wrong = wrong[np.argsort(own[wrong], kind="stable")]
    kinds, which = np.unique(np.stack([label[wrong], answer[wrong]]), axis=1, return_inverse=True)
    found = [Pair(*map(int, kind), wrong[which.ravel() == number]) for number, kind in enumerate(kinds.T)]
    return sorted(found, key=lambda pair: -len(pair.places))


def _draw_pairs(
    file: pathlib.Path, pairs: Sequence[Pair], classes: Sequence[str], drawn: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Draws a row for each pair; `drawn` gives the images at some places."""
    across = min(ACROSS, max(len(pair.places) for pair in pairs))
    rows = {}
    for pair in pairs:
        images = drawn(pair.places[:across])
        title = f"{classes[pair.label]}, says {classes[pair.answer]}: {len(pair.places)}"
        rows[title] = np.concatenate([images, np.ones((across - len(images), *images.shape[1:]))])
    contact_sheet(file, rows)


def _named(file: pathlib.Path, ending: str) -> pathlib.Path:
    return file.with_name(f"{file.name}{ending}")
