"""What a run shows while it goes: a live line and a table on a terminal, plain lines anywhere else."""

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from jaxrec.engine.loop import Moment

MOMENTS = 10  # over which the rate is smoothed
BAR = (8, 24)  # least and most columns of the bar
CELL = 7  # columns of a number, at least
GAP = 2  # columns between two


def select(names: Collection[str], first: Sequence[str], at_most: int) -> list[str]:
    """All names where they are few, else those of `first` that are there, or of all where none is: as many as fit."""
    if len(names) <= at_most:
        return list(names)
    return ([name for name in first if name in names] or list(names))[:at_most]


def text_of(value: float) -> str:
    """A metric with four places, or by its power of ten where these would show nothing of it."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 or not math.isfinite(value) else f"{value:.1e}"


class ProgressLine:
    """A hook that shows step, metrics, speed and the time that is left, and what other hooks warn of.

    On a terminal one line is redrawn in place: step, bar, rate and time are always there, metrics as many as fit, the
    most important first; and each evaluation leaves a row of a table behind. Elsewhere (a file, a pipe) each moment is
    one plain line and nothing is redrawn. metrics.jsonl has all metrics.

    Args:
      steps: steps in the run.
      step: where it starts.
      first: the most important metrics.
      console: where to show it.
    """

    def __init__(self, steps: int, step: int = 0, *, first: Sequence[str] = (), console: Console | None = None):
        self._console, self._first = console or Console(), first
        self._spent: list[tuple[int, int, float]] = []  # (steps, examples, seconds) of the latest moments
        self._columns: list[str] = []  # of the table
        self._line = _Line(step, steps, "compiling", "", {})
        self._live = (
            Live(self._line, console=self._console, refresh_per_second=4) if self._console.is_terminal else None
        )

    def __call__(self, moment: Moment) -> None:
        """Shows one moment."""
        if moment.examples:  # of a run that was stopped in an evaluation, no step may be new
            taken = moment.step - moment.previous
            self._spent = [*self._spent[1 - MOMENTS :], (taken, moment.examples, moment.seconds)]
        steps, examples, seconds = map(sum, zip(*self._spent, strict=True)) if self._spent else (1, 0, 1)
        rate = f"{examples / seconds:,.0f} images/s"
        minutes, second = divmod(round((moment.steps - moment.step) * seconds / steps), 60)
        left = f"{minutes // 60}:{minutes % 60:02}:{second:02} left"
        if self._live is None:
            values = "  ".join(f"{name} {text_of(moment.scalars[name])}" for name in self._few(moment.scalars))
            each, waited = (1000 * spent / (moment.step - moment.previous) for spent in (moment.seconds, moment.waited))
            line = f"step {moment.step}/{moment.steps}  {values}  {rate}  {each:.3g} ms/step, data {waited:.2g}  {left}"
            print(line, file=self._console.file, flush=True)
        else:
            important = {name: moment.scalars[name] for name in self._by_importance(moment.scalars)}
            self._line = _Line(moment.step, moment.steps, rate, left, important)
            if any("train/" not in name for name in moment.scalars):
                self._show_row(moment, rate.partition(" ")[0])
            self._live.update(self._line, refresh=True)
        # Where what a run shows is thrown away, as by --quiet, its warnings are not.
        seen = Console(stderr=True) if getattr(self._console.file, "name", "") == os.devnull else self._console
        for warning in moment.warnings:
            seen.print(f"step {moment.step}: {warning}", highlight=False, markup=False, soft_wrap=True)

    def _few(self, scalars: Mapping[str, float]) -> list[str]:
        """The names of the scalars in a plain line, split by split."""
        splits: dict[str, list[str]] = {}
        for name in scalars:
            splits.setdefault(name.partition("/")[0], []).append(name)
        return [
            name
            for split, names in splits.items()
            for name in select(names, [f"{split}/{metric}" for metric in self._first], 4)
        ]

    def _by_importance(self, names: Iterable[str]) -> list[str]:
        """Metrics of the headline before others, what was held out before what was trained on."""

        def place(name: str) -> tuple[int, bool]:
            split, _, metric = name.partition("/")
            return self._first.index(metric) if metric in self._first else len(self._first), split == "train"

        return sorted(names, key=place)

    def _show_row(self, moment: Moment, rate: str) -> None:
        """Leaves a row of the table, under a head where its columns are new."""
        width, chosen = self._console.width, set()
        ends = {"step": max(len(str(moment.steps)), 4), "images/s": 8}
        room = width - sum(ends.values()) - GAP
        for name in self._by_importance(moment.scalars):
            room -= max(len(name), CELL) + GAP
            if room < 0:
                break
            chosen.add(name)
        names = [name for name in moment.scalars if name in chosen]
        widths = [ends["step"], *(max(len(name), CELL) for name in names), ends["images/s"]]
        if names != self._columns:
            self._columns = names
            self._print(["step", *names, "images/s"], widths, style="bold")
        self._print([str(moment.step), *(text_of(moment.scalars[name]) for name in names), rate], widths)

    def _print(self, cells: Sequence[str], widths: Sequence[int], style: str | None = None) -> None:
        line = (" " * GAP).join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        self._console.print(line, style=style, highlight=False, markup=False, no_wrap=True, overflow="crop")

    def __enter__(self) -> "ProgressLine":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live:
            self._live.stop()


class _Line:
    """The live line, as wide as the terminal is when it is drawn."""

    def __init__(self, step: int, steps: int, rate: str, left: str, metrics: Mapping[str, float]):
        self._step, self._steps, self._ends, self._metrics = step, steps, (rate, left), metrics

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        count = f"step {self._step}/{self._steps}"
        room = options.max_width - 1 - sum(len(part) + GAP for part in (count, *self._ends)) - BAR[0]
        shown = []
        for name, value in self._metrics.items():
            text = f"{name} {text_of(value)}"
            if len(text) + GAP > room:
                break
            room -= len(text) + GAP
            shown.append(text)
        bar = ProgressBar(total=self._steps, completed=self._step, width=min(BAR[1], BAR[0] + max(room, 0)))
        line = Table.grid(padding=(0, GAP, 0, 0))
        line.add_row(count, bar, *filter(None, self._ends), *shown)
        yield line
