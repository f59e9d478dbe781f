"""One page about runs, for somebody else: it needs a browser, and nothing besides."""

import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.comparison import said
from experiments.report import answers, pictures
from experiments.report.gather import Subject, gather, table
from experiments.sides import Answers, answers_of, check_comparable, pooled, right_of
from experiments.significance import verdicts
from jaxrec.errors import InputError
from jaxrec.output.console import plain_console
from jaxrec.output.report import by_class
from jaxrec.output.workdir import check_writable
from jaxrec.types import Count, Names, Paths

LARGEST = 5_000_000  # bytes of a page
CELLS, PICTURES = 1_500_000, 1_000_000  # bytes of the pictures of all confusions, and of all folders
RECONSTRUCTS = ("autoencode", "vae")


def report(*, runs: Paths, out: str = "report.html", mistakes: Count = 8, methods: Names | None = None) -> int:
    """Writes what was asked, what came out and how it went into one page, which needs no network.

    Of several runs what they have in common stands first, then each of them. A run may be going on, or have been
    stopped: what there is of it is shown, and what is missing is said. Of the examples those of the test split are
    shown where the run is finished and has been measured on it, else those of validation.

    Args:
      runs: folders of runs, or of those that `--seeds` or `cross_validate` has made, which stand for one config.
      out: the file.
      mistakes: how many of each run's worst mistakes are explained.
      methods: by which maps, see docs/explain.md; by default those that are quick and that its network can have.

    Returns:
      The exit code.

    Raises:
      InputError: a run is not there or damaged, the file cannot be written, or a library that draws is not installed.

    Example:
      python launch.py report runs/a runs/b --out=compared.html
    """
    try:
        from experiments.report import charts, page
    except ModuleNotFoundError as error:
        if error.name not in ("altair", "jinja2", "vl_convert"):
            raise
        raise InputError("A report needs Altair, Jinja2 and vl-convert: pip install -e '.[report]'.") from None
    file = pathlib.Path(out)
    if file.suffix != ".html":  # nothing that a run has written
        raise InputError(f"--out={out}: is a page. Name a file that ends in .html.")
    check_writable(file, "--out")
    subjects = [gather(name) for name in dict.fromkeys(runs)]
    found = [_asked(subject, len(subjects), mistakes, methods) for subject in subjects]
    shown = page.Page(subjects, charts.curves(subjects), [one for one, _ in found], *_judged(subjects, found))
    text = page.rendered(shown)
    partial = file.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
    size = len(text.encode())
    if size > LARGEST:
        warnings.warn(f"{file} has {size / 1e6:.1f} MB. Report fewer runs on one page.", stacklevel=1)
    console = plain_console(soft_wrap=True)
    for line in (line for one in shown.seen for line in one.missing):
        console.print(line)
    console.print(f"Written: {file}, {size / 1e6:.1f} MB. Open it in a browser.")
    return 0


def _asked(
    subject: Subject, sides: int, mistakes: int, methods: Sequence[str] | None
) -> tuple["answers.Seen", Sequence[Answers]]:
    """What the networks of a subject say; of several runs the first, of a cross-validation what all held out.

    The worst mistakes and the pictures are the first run's in any case.
    """
    side, split, first = subject.side, subject.split, subject.side.folders[0]
    drawn, missing = pictures.of_folder(first, PICTURES // sides)
    together = side.folds and split == "test"
    of = pathlib.Path(side.name, "confusion_out_of_fold.csv") if together else first / f"confusion_{split}.csv"
    confusion, worst, given = answers.counted(table(of)), [], []
    classes = table(of.with_name(of.name.replace("confusion", "per_class")))
    try:
        if side.config.get("experiment") == "classify" and side.notes:
            each = [answers_of(folder, split) for folder in side.folders]
            given = [pooled(each)] if together else each
            if together:
                head, rows = by_class(given[0].measured["per_class"], side.notes)
                classes = [head, *([str(value) for value in row] for row in rows)]
            if not each[0].evaluation.several:
                confusion = answers.confusion_of(given[0], CELLS // sides)
            worst = answers.mistakes_of(each[0], mistakes, methods)
        elif side.config.get("experiment") in RECONSTRUCTS and side.notes:
            worst = answers.badly_made(first, side.config, side.notes, split, mistakes, methods)
    except InputError as error:
        if methods and str(error).startswith("--methods"):
            raise
        missing.append(f"Its examples are not shown: {error}")
    return answers.Seen(split, confusion, worst, classes, drawn, [*subject.missing, *missing]), given


def _judged(
    subjects: Sequence[Subject], found: Sequence[tuple["answers.Seen", Sequence[Answers]]]
) -> tuple[Sequence[str], str]:
    """What can be said of each two recognisers; and why nothing can, where nothing can."""
    sides = [subject.side for subject in subjects]
    if len(sides) == 1 or any(side.config.get("experiment") != "classify" for side in sides):
        return (), ""
    splits: Mapping[str, Any] = {subject.split: None for subject in subjects}
    try:
        if len(splits) > 1 or not all(subject.finished for subject in subjects):
            raise InputError("not all of these runs are finished.")
        check_comparable(sides, *splits)
        if not all(given for _, given in found):
            raise InputError("not all of their networks can be asked.")
        right = right_of({side.name: given for side, (_, given) in zip(sides, found, strict=True)})
    except InputError as error:
        return (), f"Not judged: {error}"
    return [said(*pair, one) for pair, one in verdicts(right).items()], ""
