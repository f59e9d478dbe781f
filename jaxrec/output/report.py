"""What a finished run says: result.json, the curves, tables and a picture by class, and a small table."""

import csv
import datetime
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from jaxrec.engine.hooks import Speed
from jaxrec.output.console import plain_console
from jaxrec.output.progress import select
from jaxrec.output.records import draw_curves
from jaxrec.output.workdir import read_json, write_json

COLUMNS = 6  # of the table, at most
PER_CLASS = ("precision", "recall", "f1", "examples", "average_precision")  # the columns of `per_class`, or the first


def write(
    workdir: pathlib.Path,
    *,
    step: int,
    metrics: Mapping[str, Mapping[str, float | np.ndarray]],
    headline: Sequence[str],
    speed: Speed,
    notes: Mapping[str, Any],
) -> None:
    """Writes result.json and curves.png, and where the metrics hold them, what is known of each class.

    Of the split "test", or of "validation" where there is no test: `confusion_<split>.csv` and `.png` from
    `confusion`, `per_class_<split>.csv` from `per_class`, as in `jaxrec.metrics.Predictions` and, without `confusion`,
    `MultilabelPredictions`; those of the moving average where there is one.

    Args:
      workdir: the run's folder.
      step: whose state was chosen.
      metrics: of that state, by split and name; a number that is not finite becomes null.
      headline: the metrics to show where a split has more than fit.
      speed: of the training.
      notes: of the experiment; `classes` names the classes.
    """
    draw_curves(workdir)
    for split in [split for split in ("test", "validation") if split in metrics][:1]:
        write_classes(workdir, split, metrics[split], notes)
    result = {
        "step": step,
        "metrics": {split: numbers(values) for split, values in metrics.items()},
        "headline": list(headline),
        "images_per_second": speed.examples / speed.seconds,
        "examples": speed.examples,
        "training_seconds": speed.seconds,
        "data_wait_seconds": speed.waited,
        "notes": notes,
    }
    write_json(workdir / "result.json", result)


def show(workdir: pathlib.Path, note: str = "") -> int:
    """Prints the table of result.json and returns exit code 0."""
    result = read_json(
        workdir / "result.json", keys={"step": int, "metrics": dict, "headline": list, "training_seconds": float}
    )
    console = plain_console()
    table, rest = table_of(result["metrics"], result["headline"], f"step {result['step']}")
    console.print(table)
    if rest:
        classes = sorted(file.name for pattern in ("confusion_*", "per_class_*") for file in workdir.glob(pattern))
        console.print(
            f"{', '.join(rest)}: see result.json" + f"; by class: {', '.join(classes)}" * bool(classes), soft_wrap=True
        )
    time = datetime.timedelta(seconds=round(result["training_seconds"]))
    waited = result.get("data_wait_seconds", 0) / result["training_seconds"]  # an older run has not said
    console.print(
        f"{result['images_per_second']:,.0f} images/s, {time} of training, {waited:.1%} of it waiting for data"
    )
    console.print(f"{note + ' ' if note else ''}The run: {workdir}", soft_wrap=True)
    return 0


def table_of(
    rows: Mapping[str, Mapping[str, float | None]], headline: Sequence[str], title: str, first: str = "split"
) -> tuple[Table, list[str]]:
    """Metrics as a table for the terminal, and the names of those that do not fit.

    Args:
      rows: the name of a row -> its metrics.
      headline: which ones to show where there are more than fit.
      title: of the table.
      first: of its first column.
    """
    names = list(dict.fromkeys(name for values in rows.values() for name in values))
    shown = select(names, headline, COLUMNS)
    table = Table(first, *shown, title=title, title_justify="left")
    for name, values in rows.items():
        table.add_row(name, *(_cell(metric, values.get(metric)) for metric in shown))
    return table, [name for name in names if name not in shown]


def numbers(values: Mapping[str, float | np.ndarray]) -> dict[str, float | None]:
    """The numbers among the metrics, as JSON knows them."""
    plain = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
    return {name: value if math.isfinite(value) else None for name, value in plain.items()}


def _cell(name: str, value: float | None) -> str:
    """A metric as the table shows it."""
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" if name.endswith("accuracy") else f"{value:.4f}"


def write_classes(workdir: pathlib.Path, split: str, values: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
    """Writes the tables and the picture by class of one split, arguments as in `write`."""
    values = {**values, **{name.removeprefix("ema_"): value for name, value in values.items() if "ema_" in name}}
    if "confusion" in values:
        names = _class_names(notes, len(values["confusion"]))
        rows = [[name, *counts] for name, counts in zip(names, values["confusion"].tolist(), strict=True)]
        write_csv(workdir / f"confusion_{split}.csv", ["true class", *names], rows)
        _draw_confusion(workdir / f"confusion_{split}.png", values["confusion"], names, split)
    if "per_class" in values:
        write_csv(workdir / f"per_class_{split}.csv", *by_class(values["per_class"], notes))


def by_class(per_class: np.ndarray, notes: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """The head and the rows of a table of `per_class` [K, columns], a row for each class; notes as in `write`."""
    names, head = _class_names(notes, len(per_class)), PER_CLASS[: per_class.shape[1]]
    rows = [
        [name, *(int(value) if column == "examples" else value for column, value in zip(head, row, strict=True))]
        for name, row in zip(names, per_class.tolist(), strict=True)
    ]
    return ["class", *head], rows


def _class_names(notes: Mapping[str, Any], classes: int) -> list[str]:
    return [str(name) for name in notes.get("classes", range(classes))]


def write_csv(file: pathlib.Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Writes a table that is there whole or not at all."""
    partial = file.with_suffix(".partial")
    with partial.open("w", newline="") as opened:
        csv.writer(opened, lineterminator="\n").writerows([head, *rows])
    partial.replace(file)


def _draw_confusion(file: pathlib.Path, confusion: np.ndarray, names: Sequence[str], split: str) -> None:
    """Draws [K, K] counts, coloured by their share of the true class; counts in the cells of up to 20 classes."""
    from matplotlib.colors import PowerNorm  # matplotlib takes half a second to import
    from matplotlib.figure import Figure

    classes = len(confusion)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)  # a class without examples has none
    side = 2.5 + (0.55 * classes if classes <= 20 else max(7, 0.12 * min(classes, 100)))
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.add_subplot()
    # The root makes the few errors of a good network visible beside its many right answers.
    picture = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    figure.colorbar(picture, ax=axes, label="share of the true class", ticks=[0, 0.01, 0.05, 0.2, 0.5, 1], shrink=0.8)
    axes.set(xlabel="predicted class", ylabel="true class", title=f"confusion, {split}")
    if classes <= 100:
        letters = {"fontsize": 9 if classes <= 20 else 6, "parse_math": False}  # a name may hold a dollar
        axes.set_xticks(range(classes), names, rotation=90 if max(map(len, names)) > 2 else 0, **letters)
        axes.set_yticks(range(classes), names, **letters)
    if classes <= 20:
        for row, column in np.ndindex(confusion.shape):
            if confusion[row, column]:
                axes.text(
                    column,
                    row,
                    f"{confusion[row, column]}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if shares[row, column] > 0.4 else "black",
                )
    figure.savefig(file, dpi=100, bbox_inches="tight")
