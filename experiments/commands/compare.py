"""Runs beside each other: their metrics, what their configs differ in, and whether the data can tell them apart."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from experiments.comparison import FLOOR, cell, differing_in_words, in_order, said, share
from experiments.sides import Side, answers_of_side, check_comparable, differing, right_of, side_of
from experiments.significance import FEWEST, LEVEL, interval, metrics_of, verdicts
from jaxrec.errors import InputError
from jaxrec.output.records import read
from jaxrec.output.workdir import check_writable, read_json, write_json
from jaxrec.types import Paths

PANELS = 8  # of the picture, at most


def compare(*, runs: Paths, split: Literal["validation", "test"] = "test", out: str = "compare") -> int:
    """Prints metrics and configs of runs side by side, and of recognisers what a paired test says of each two.

    Writes all of it to <out>.json, and the learning curves over each other to <out>.png.

    Args:
      runs: folders of finished runs, or of those that `--seeds` or `cross_validate` has made; these stand for one
        config.
      split: on which they are compared.
      out: the files, without their endings.

    Returns:
      The exit code.

    Raises:
      InputError: a run is not there, not finished, or was not measured on what the first one was; or the files cannot
        be written.

    Example:
      python launch.py compare runs/a runs/b --split=validation
    """
    _check_out(out)
    sides = [side_of(name) for name in dict.fromkeys(runs)]
    check_comparable(sides, split)
    console = Console(highlight=False, markup=False)
    metrics = {side.name: metrics_of(side, split) for side in sides}
    found: dict[str, Any] = {"split": split, "metrics": metrics, "configs": differing(sides)}
    classify = sides[0].config["experiment"] == "classify"
    right = right_of({side.name: answers_of_side(side, split) for side in sides}) if classify else {}
    console.print(_table(metrics, sides, split))
    if right:
        intervals = {name: interval(answers.mean(0)) for name, answers in right.items()}
        judged = verdicts(right)
        found["accuracy"] = {name: {"images": right[name].shape[1], **of._asdict()} for name, of in intervals.items()}
        found["pairs"] = [
            {"runs": pair, **one._asdict(), "difference": one.difference._asdict()} for pair, one in judged.items()
        ]
        for name, of in intervals.items():
            images = right[name].shape[1]
            console.print(f"{name}: right on {share(of)} of {images:,} images of {split}.", soft_wrap=True)
        for pair, one in judged.items():
            console.print(said(*pair, one), soft_wrap=True)
        if len(judged) > 1:
            console.print("Each p is corrected for the number of its kind (Holm).")
    if found["configs"]:
        console.print(_differing(sides))
    write_json(pathlib.Path(f"{out}.json"), found)
    _draw(pathlib.Path(f"{out}.png"), sides)
    console.print(f"Written: {out}.json and {out}.png", soft_wrap=True)
    return 0


def _check_out(out: str) -> None:
    """Raises InputError where the files cannot be written, or one is there that is no comparison: a run's own, say."""
    file = pathlib.Path(f"{out}.json")
    check_writable(file, "--out")
    if file.exists() and not {"split", "metrics", "configs"} <= set(read_json(file)):
        raise InputError(f"--out={out}: {file} is there and is no comparison. Name another file.")


def _table(metrics: Mapping[str, Mapping[str, Any]], sides: Sequence[Side], split: str) -> Table:
    """Metrics as rows, the headline first and each floor below what it is the floor of; a column for each side."""
    runs = max(len(side.folders) for side in sides)
    how = ": mean ± deviation over runs" if runs > 1 else ""
    how += f", from {FEWEST} seeds on [{LEVEL:.0%} interval of the mean]" if any(side.seeds for side in sides) else ""
    heads = [f"{side.name}\nn = {len(side.folders)}" if runs > 1 else side.name for side in sides]
    table = Table(split, title=f"{split}{how}", title_justify="left")
    for head in heads:
        table.add_column(head, overflow="fold")
    for name in in_order(dict.fromkeys(name for of in metrics.values() for name in of), sides[0]):
        label = f"  floor: {name}" if name.startswith(FLOOR) else name
        table.add_row(label, *(cell(metrics[side.name].get(name)) for side in sides))
    return table


def _differing(sides: Sequence[Side]) -> Table:
    table = Table("what differs", title_justify="left")
    for side in sides:
        table.add_column(side.name, overflow="fold")
    for key, values in differing_in_words(sides).items():
        table.add_row(key, *values)
    return table


def _draw(file: pathlib.Path, sides: Sequence[Side]) -> None:
    """Draws what is recorded of the train loss and on validation: a panel for each metric, a colour for each side."""
    from matplotlib.figure import Figure  # takes half a second to import

    records = {side.name: [list(read(folder / "metrics.jsonl")) for folder in side.folders] for side in sides}
    names = dict.fromkeys(name for runs in records.values() for run in runs for record in run for name in record)
    measured = [name.partition("/")[2] for name in names if name.startswith("validation/")]
    shown = [f"validation/{name}" for name in in_order(measured, sides[0])] or [n for n in names if n != "step"]
    shown = [name for name in ("train/loss",) if name in names and name not in shown] + shown
    shown = shown[:PANELS]
    columns = max(min(len(shown), 4), 1)
    figure = Figure(figsize=(4.5 * columns, 3.5 * math.ceil(len(shown) / columns)), layout="constrained")
    for place, name in enumerate(shown, start=1):
        axes = figure.add_subplot(math.ceil(len(shown) / columns), columns, place)
        for number, (side, runs) in enumerate(records.items()):
            for run in runs:
                points = [(record["step"], record[name]) for record in run if record.get(name) is not None]
                if points:
                    alpha = 1 if len(runs) == 1 else 0.6
                    axes.plot(
                        *zip(*points, strict=True), color=f"C{number % 10}", alpha=alpha, linewidth=1.2, label=side
                    )
        axes.set(xlabel="step", title=name)
        axes.grid(alpha=0.3)
    lines = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    if lines:
        figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=min(len(lines), 3))
    figure.savefig(file, dpi=100)
