"""What a finished run says: result.json, the curves, and a small table."""

import datetime
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from jaxrec.hooks import Speed
from jaxrec.records import draw_curves
from jaxrec.workdir import write_json


def write(
    workdir: pathlib.Path,
    *,
    step: int,
    metrics: Mapping[str, Mapping[str, float]],
    speed: Speed,
    notes: Mapping[str, Any],
) -> None:
    """Writes result.json and curves.png.

    Args:
      workdir: the run's folder.
      step: whose state was chosen.
      metrics: of that state, by split and name.
      speed: of the training.
      notes: of the experiment.
    """
    draw_curves(workdir)
    result = {
        "step": step,
        "metrics": metrics,
        "images_per_second": speed.examples / speed.seconds,
        "examples": speed.examples,
        "training_seconds": speed.seconds,
        "notes": notes,
    }
    write_json(workdir / "result.json", result)


def show(workdir: pathlib.Path, note: str = "") -> int:
    """Prints the table of result.json and returns exit code 0."""
    result = json.loads((workdir / "result.json").read_text())
    names = list(dict.fromkeys(name for values in result["metrics"].values() for name in values))
    table = Table("split", *names, title=f"step {result['step']}", title_justify="left")
    for split, values in result["metrics"].items():
        table.add_row(split, *(f"{100 * v:.2f} %" if n == "accuracy" else f"{v:.4f}" for n, v in values.items()))
    console = Console(highlight=False, markup=False)
    console.print(table)
    time = datetime.timedelta(seconds=round(result["training_seconds"]))
    console.print(f"{result['images_per_second']:,.0f} images/s, {time} of training")
    console.print(f"{note + ' ' if note else ''}The run: {workdir}", soft_wrap=True)
    return 0
