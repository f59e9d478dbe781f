"""What a run writes down: metrics.jsonl, TensorBoard events, learning curves."""

import contextlib
import json
import math
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from jaxrec.engine.loop import Moment
from jaxrec.errors import InputError
from jaxrec.output.workdir import naming


class Records:
    """A hook that writes the scalars of each moment to metrics.jsonl and to TensorBoard event files.

    metrics.jsonl holds one line for each moment, {"step": 50, "train/loss": ...}, and nothing that depends on time, so
    the file of a resumed run equals that of the unbroken run. Speed goes to TensorBoard alone.

    Args:
      workdir: where to write.
      step: of the checkpoint the run goes on from, or 0: what was written of later steps is taken back.
    """

    def __init__(self, workdir: pathlib.Path, step: int = 0):
        self.path = workdir / "metrics.jsonl"
        kept = [record for record in read(self.path) if record["step"] <= step]
        partial = self.path.with_suffix(".partial")
        with naming(self.path):
            partial.write_text("".join(json.dumps(record) + "\n" for record in kept))
            partial.replace(self.path)
        self._file = self.path.open("a", buffering=1)
        # Not by a SummaryWriter: its thread ends at an error, such as a full disk, and the run waits for it for ever.
        events = workdir / "tensorboard"
        events.mkdir(exist_ok=True)
        self._events = EventsWriter(str(events / "events"))
        with naming(self.path):
            self._add(step + 1, session_log=SessionLog(status=SessionLog.START))  # hides what is there of later steps

    def __call__(self, moment: Moment) -> None:
        """Writes one moment; on disk before a later hook saves its checkpoint.

        Raises:
          OSError: the disk is full, or cannot be written; it names the file.
        """
        record = {name: value if math.isfinite(value) else None for name, value in moment.scalars.items()}
        steps = moment.step - moment.previous
        speeds = {
            "images_per_second": moment.examples / moment.seconds,
            "step_ms": 1000 * moment.seconds / steps,
            "data_wait_ms": 1000 * moment.waited / steps,
        }
        shown = {**moment.scalars, **{f"speed/{name}": value for name, value in speeds.items()}}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in shown.items()]
        with naming(self.path):
            self._file.write(json.dumps({"step": moment.step, **record}) + "\n")
            self._add(moment.step, summary=Summary(value=values))

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, *exc: Any) -> None:
        with naming(self.path), contextlib.closing(self._events):
            self._file.close()

    def _add(self, step: int, **content: Any) -> None:
        """Writes one event."""
        self._events.write_event(Event(wall_time=time.time(), step=step, **content))
        self._events.flush()


def read(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a metrics.jsonl; a last line that a kill cut short is left out.

    Raises:
      InputError: another line is no record.
    """
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            whole = isinstance(record["step"], int)
        except (ValueError, KeyError, TypeError, RecursionError):
            whole = False
        if not whole:
            raise InputError(
                f"{path}, line {number}: is no record of a step, so the file is damaged. Put it back as it was, or "
                "take the line away."
            )
        yield record


def draw_curves(workdir: pathlib.Path) -> None:
    """Draws the curves of metrics.jsonl into curves.png: a panel for each metric, a line for each split.

    What is measured on averaged weights, "ema_accuracy", is a line of its own in the panel of "accuracy".
    """
    from matplotlib.figure import Figure  # takes half a second to import

    curves: dict[str, list[tuple[int, float]]] = {}
    for record in read(workdir / "metrics.jsonl"):
        for name, value in record.items():
            if name != "step" and value is not None:
                curves.setdefault(name, []).append((record["step"], value))
    panels: dict[str, dict[str, list]] = {}  # metric -> label -> points
    for name, points in curves.items():
        split, _, metric = name.partition("/")
        averaged = metric.startswith("ema_")
        panels.setdefault(metric.removeprefix("ema_"), {})[f"{split}, ema" if averaged else split] = points
    if not panels:
        return
    labels = list(dict.fromkeys(label for lines in panels.values() for label in lines))
    colours = {label: f"C{index}" for index, label in enumerate(labels)}  # the same in each panel
    columns = min(len(panels), 4)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5 * columns, 3.5 * rows), layout="constrained")
    for position, (panel, lines) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, position)
        for label, points in lines.items():
            marker = "." if len(points) < 30 else ""
            axes.plot(*zip(*points, strict=True), label=label, color=colours[label], marker=marker)
        axes.set(xlabel="step", title=panel)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(workdir / "curves.png", dpi=100)
