"""A list of runs, from what lies in their folders. JAX is not imported, and nothing is written."""

import fcntl
import json
import os
import pathlib
import platform
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table

from jaxrec.errors import InputError

if TYPE_CHECKING:
    from jaxrec.types import Paths  # imports JAX

HIGHER = ("accuracy", "f1", "auc", "match", "precision", "psnr", "ssim")  # in the name of what is better when larger
# Written whole or not at all, each with a section: so one that holds no JSON, or something else there, is damaged.
WHOLE = {"config.json": "train", "result.json": "metrics"}
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Run(NamedTuple):
    """What a folder says of a run.

    Attributes:
      folder: of the run.
      state: "damaged", "running", "finished", "diverged", "trained", to its last step and not measured then, or
        "stopped".
      step: the last one that is recorded.
      steps: of the whole run, where the config says it in steps.
      best: the metric of validation that chooses, and its best value so far; of a run without one None.
      seconds: since something was recorded.
      size: of all its files, in bytes.
      damaged: the names of its files that are.
    """

    folder: pathlib.Path
    state: str
    step: int
    steps: int | None
    best: tuple[str, float] | None
    seconds: float
    size: int
    damaged: Sequence[str]


def runs(*, folders: "Paths" = ("runs",)) -> int:
    """Prints a line for each run in folders and below: state, step, best metric of validation, age and size.

    Args:
      folders: of runs, or in which they lie.

    Returns:
      The exit code.

    Raises:
      InputError: a folder is not there.

    Example:
      python launch.py runs runs/digits_folds
    """
    table, found = Table("run", "state", "step", "best on validation", "recorded", "size"), 0
    for name in folders:
        if not os.path.isdir(name):
            raise InputError(f"{name}: no such folder. Name one in which runs lie.")
        for run in map(look, below(pathlib.Path(name))):
            step = f"{run.step:,}" + (f" of {run.steps:,}" if run.steps else "")
            best = "-" if run.best is None else f"{run.best[0]} {run.best[1]:.4f}"
            state = ": ".join(filter(None, (run.state, " and ".join(run.damaged))))
            table.add_row(str(run.folder), state, step, best, f"{age(run.seconds)} ago", f"{run.size / 1e6:,.1f} MB")
            found += 1
    # A pipe has no width that a table would have to fit.
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 1000)
    console.print(table if found else f"No runs in {', '.join(folders)}.")
    return 0


def below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folders of runs in a folder, by name; in a run nothing more is looked for."""
    if (folder / "config.json").exists():
        yield folder
        return
    with os.scandir(folder) as entries:
        inner = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in sorted(inner, key=_by_number):
        yield from below(folder / name)


def look(folder: pathlib.Path) -> Run:
    """Reads a run's folder; what is damaged there is named, and counts as not there."""
    read = {name: _json(folder / name, section) for name, section in WHOLE.items()}
    damaged = [name for name, found in read.items() if found is None]
    config, result = (found or {} for found in read.values())
    records, steps = folder / "metrics.jsonl", config.get("train", {}).get("steps")
    lines = records.read_bytes().splitlines() if records.exists() else []
    last = next(filter(None, map(_record, reversed(lines))), {})
    newest = max(_time(folder / name) for name in ("config.json", "lock", "metrics.jsonl", "result.json"))
    return Run(
        folder,
        "damaged" if damaged else _state(folder, bool(result), steps is not None and last.get("step") == steps),
        last.get("step", 0),
        steps,
        _best(lines, _monitor(config, result, last)),
        time.time() - newest,
        _size(folder),
        damaged,
    )


def age(seconds: float) -> str:
    """A time in its largest unit: "3 h"."""
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= size), UNITS[-1])
    return f"{max(seconds, 0) / size:.0f} {unit}"


def _by_number(name: str) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _state(folder: pathlib.Path, finished: bool, trained: bool) -> str:
    if _is_owned(folder / "lock"):
        return "running"
    if finished:
        return "finished"
    return "diverged" if (folder / "nan_report.json").exists() else "trained" if trained else "stopped"


def _is_owned(lock: pathlib.Path) -> bool:
    """Whether a process holds a run's lock.

    To ask for a lock is to hold it for a moment, in which a run that begins would be refused. So it is asked for only
    where the process that the file names may be there still.
    """
    try:
        with lock.open() as file:
            owner = re.match(r"process (\d+) on (.+) since ", file.read())
            if owner is None or (owner[2] == platform.node() and not _is_alive(int(owner[1]))):
                return False
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:  # somebody else's
        return True
    except OSError:
        return False
    return True


def _monitor(config: Mapping[str, Any], result: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """The metric of validation to show: what the config monitors, else what the run shows first."""
    measured = [name.partition("/")[2] for name in last if name.startswith("validation/")]
    measured = measured or list(result.get("metrics", {}).get("validation", ()))
    named = config.get("monitor")
    wanted = [f"ema_{named}", named, *(result.get("headline") or ()), "loss", *measured]
    return next((name for name in wanted if name in measured), "")


def _best(lines: list[bytes], monitor: str) -> tuple[str, float] | None:
    """The best value of a metric of validation among the records."""
    key = f"validation/{monitor}"
    records = (_record(line) for line in lines if key.encode() in line)
    values = [record[key] for record in records if isinstance(record.get(key), int | float)]
    better = max if any(word in monitor for word in HIGHER) else min
    return (monitor, better(values)) if values else None


def _record(line: bytes) -> dict[str, Any]:
    """A line of the records; one that a kill has cut short, or that has no step, holds nothing."""
    found = _object(line) or {}
    return found if isinstance(found.get("step"), int) else {}


def _json(file: pathlib.Path, section: str) -> dict[str, Any] | None:
    """What a file holds: {} where it is not there, None where it is damaged, or its section is none."""
    try:
        found = _object(file.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError:
        return None
    return found if found and isinstance(found.get(section, {}), dict) else None


def _object(text: bytes) -> dict[str, Any] | None:
    """The JSON object that a text is, None where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _time(file: pathlib.Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0


def _size(folder: str | os.PathLike) -> int:
    """Bytes of all files in a folder and below."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += _size(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    except OSError:  # a checkpoint that makes way just now
        pass
    return total
