"""The same config under several seeds: mean and deviation instead of one lucky number."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from experiments.commands.run import run
from jaxrec.output.console import plain_console
from jaxrec.output.workdir import read_json, write_json

Spread = Mapping[str, Mapping[str, Mapping[str, float | None]]]  # split -> metric -> "mean" and "std"


def repeat(config: Mapping[str, Any], workdir: pathlib.Path, *, seeds: int, fresh: bool = False) -> int:
    """Carries a config out under `seeds` seeds, from the config's own on, each in a folder of its own.

    Runs that are finished are not run again, so the same command goes on where it stopped. Writes seeds.json with mean
    and sample standard deviation of every metric and prints them as a table.

    Args:
      config: checked and complete.
      workdir: seed s is run in workdir/seed_<s>.
      seeds: how many.
      fresh: whether to move old runs aside first.

    Returns:
      The exit code.

    Raises:
      InputError, DivergedError: as `run`.
    """
    folders = []
    for seed in range(config["seed"], config["seed"] + seeds):
        folders.append(workdir / f"seed_{seed}")
        run({**config, "seed": seed}, folders[-1], fresh=fresh, layers=len(folders) == 1)
    summary = spread(folders)
    write_json(workdir / "seeds.json", {"seeds": seeds, "metrics": summary})
    console = plain_console()
    console.print(table_of_spread(summary, f"{seeds} seeds"))
    console.print(f"The runs: {workdir}", soft_wrap=True)
    return 0


def spread(folders: Sequence[pathlib.Path]) -> Spread:
    """Mean and sample standard deviation of each metric over finished runs."""
    results = [read_json(folder / "result.json", keys={"metrics": dict})["metrics"] for folder in folders]
    return {
        split: {name: _spread([result[split][name] for result in results]) for name in metrics}
        for split, metrics in results[0].items()
    }


def table_of_spread(summary: Spread, title: str) -> Table:
    """What `spread` has found, as a table."""
    table = Table("split", "metric", "mean", "std", title=title, title_justify="left")
    for split, metrics in summary.items():
        for name, values in metrics.items():
            table.add_row(split, name, *("-" if value is None else f"{value:.4f}" for value in values.values()))
    return table


def _spread(values: list[float | None]) -> dict[str, float | None]:
    """Mean and sample standard deviation; None where there is none, as of one value or of what is not finite."""
    if None in values:
        return {"mean": None, "std": None}
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else None}
