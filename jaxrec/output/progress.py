"""What a run shows while it goes: a live line on a terminal, plain lines anywhere else."""

import datetime
from collections.abc import Collection, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from jaxrec.engine.loop import Moment


def select(names: Collection[str], first: Sequence[str], at_most: int) -> list[str]:
    """All names where they are few, else those of `first` that are there, or of all where none is: as many as fit."""
    if len(names) <= at_most:
        return list(names)
    return ([name for name in first if name in names] or list(names))[:at_most]


class ProgressLine:
    """A hook that shows step, metrics, speed and the time that is left, and what other hooks warn of.

    Of many metrics it shows some; metrics.jsonl has them all.

    On a terminal one line is redrawn in place, and a line is left behind for each evaluation. Elsewhere (a file, a
    pipe) each moment is one plain line and nothing is redrawn.

    Args:
      steps: steps in the run.
      step: where it starts.
      first: the metrics to show where a split has more than fit.
      console: where to show it.
    """

    def __init__(self, steps: int, step: int = 0, *, first: Sequence[str] = (), console: Console | None = None):
        console = console or Console()
        self._console, self._first = console, first
        self._spent: list[tuple[int, float]] = []  # (steps, seconds) of the latest moments
        self._live = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            console=console,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )
        self._task = self._live.add_task("compiling", total=steps, completed=step)

    def __call__(self, moment: Moment) -> None:
        """Shows one moment."""
        self._spent = [*self._spent[-9:], (moment.step - moment.previous, moment.seconds)]
        steps, seconds = (sum(column) for column in zip(*self._spent, strict=True))
        left = datetime.timedelta(seconds=round((moment.steps - moment.step) * seconds / steps))
        values = "  ".join(f"{name} {moment.scalars[name]:.4f}" for name in self._shown(moment))
        taken, waited = (1000 * spent / (moment.step - moment.previous) for spent in (moment.seconds, moment.waited))
        speed = f"{moment.examples / moment.seconds:,.0f} images/s  {taken:.3g} ms/step, data {waited:.2g}  {left} left"
        line = f"step {moment.step}/{moment.steps}  {values}  {speed}"
        if not self._console.is_terminal:
            print(line, file=self._console.file, flush=True)
        else:
            train = "  ".join(f"{k.removeprefix('train/')} {v:.4f}" for k, v in moment.scalars.items() if "train/" in k)
            self._live.update(self._task, completed=moment.step, description=f"{train}  {speed}")
            if any("train/" not in name for name in moment.scalars):
                self._live.console.print(line, highlight=False, soft_wrap=True)
        for warning in moment.warnings:
            self._live.console.print(f"step {moment.step}: {warning}", highlight=False, markup=False, soft_wrap=True)

    def _shown(self, moment: Moment) -> list[str]:
        """The names of the scalars in a line, split by split."""
        splits: dict[str, list[str]] = {}
        for name in moment.scalars:
            splits.setdefault(name.partition("/")[0], []).append(name)
        return [
            name
            for split, names in splits.items()
            for name in select(names, [f"{split}/{metric}" for metric in self._first], 4)
        ]

    def __enter__(self) -> "ProgressLine":
        self._live.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._live.stop()
