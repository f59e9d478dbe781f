"""What a run writes and shows."""

import contextlib
import errno
import io
import json
import math
import os
import re
from collections.abc import Iterator
from unittest import mock

import pytest
from matplotlib.figure import Figure
from rich.console import Console
from tensorboardX.proto import event_pb2

from jaxrec.engine.loop import Moment
from jaxrec.errors import InputError
from jaxrec.output.progress import ProgressLine, select, text_of
from jaxrec.output.records import Records, draw_curves, read


def moment(step: int, **scalars: float) -> Moment:
    return Moment(
        step=step,
        steps=100,
        previous=step - 10,
        state=None,
        examples=640,
        seconds=0.5,
        evaluate=None,
        scalars={name.replace("_", "/", 1): value for name, value in scalars.items()},
        warnings=[],
    )


def tensorboard_events(folder) -> Iterator[event_pb2.Event]:
    """Reads event files with TensorBoard's record format, independently of the writer."""
    for file in sorted(folder.glob("events.out.tfevents.*")):
        data = file.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            yield event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[12 + length + 4 :]


def tensorboard_scalars(folder) -> dict[str, dict[int, float]]:
    scalars: dict[str, dict[int, float]] = {}
    for event in tensorboard_events(folder):
        for value in event.summary.value:
            scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    return scalars


def test_each_moment_is_one_line_and_one_event(tmp_path, caplog):
    with Records(tmp_path) as record:
        record(moment(10, train_loss=0.5))
        record(moment(20, train_loss=math.nan, validation_accuracy=0.25))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [
        {"step": 10, "train/loss": 0.5},
        {"step": 20, "train/loss": None, "validation/accuracy": 0.25},
    ]
    assert caplog.records == []  # of a NaN the run says so itself
    events = tensorboard_scalars(tmp_path / "tensorboard")
    assert events["train/loss"][10] == 0.5
    assert math.isnan(events["train/loss"][20])
    assert events["validation/accuracy"] == {20: 0.25}
    assert events["speed/images_per_second"] == {10: 1280, 20: 1280}


def test_what_came_after_the_checkpoint_is_taken_back(tmp_path):
    with Records(tmp_path) as record:
        for step in (10, 20, 30):
            record(moment(step, train_loss=step))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "tra')  # killed while writing
    with Records(tmp_path, step=20) as record:
        record(moment(30, train_loss=3))
    assert [(r["step"], r["train/loss"]) for r in read(tmp_path / "metrics.jsonl")] == [(10, 10), (20, 20), (30, 3)]
    # TensorBoard hides what it has of the step at which a session starts, and of later ones.
    events = tensorboard_events(tmp_path / "tensorboard")
    assert [event.step for event in events if event.session_log.status == event_pb2.SessionLog.START][-1] == 21


@pytest.mark.parametrize(
    "line", [b"garbage", b'{"step": 20, "tra', b"\x00\xff", b"[20]", b'{"loss": 1}', b"", b"[" * 10**5]
)
def test_a_line_that_is_no_record_is_named_and_nothing_is_lost(tmp_path, line):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 10, "train/loss": 1}\n' + line + b'\n{"step": 30, "train/loss": 3}\n')
    before = file.read_bytes()
    with pytest.raises(InputError, match=r"metrics.jsonl, line 2: is no record of a step"):
        Records(tmp_path, step=30)
    assert file.read_bytes() == before


@pytest.mark.parametrize("part", ["_file", "_events"])
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, part):
    """TensorBoard's own writer has a thread, and waits for ever once that has failed."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    record = Records(tmp_path)
    getattr(record, part).close()
    setattr(record, part, mock.Mock(write=full, write_event=full, flush=full, close=full))
    for _ in range(30):
        with pytest.raises(OSError, match=r"No space left on device: .*metrics.jsonl"):
            record(moment(10, train_loss=0.5))
    with pytest.raises(OSError, match=r"No space left on device: .*metrics.jsonl"), record:
        pass


def test_curves_are_drawn(tmp_path):
    with Records(tmp_path) as record:
        record(moment(10, train_loss=0.5, train_accuracy=0.1))
        record(moment(20, train_loss=math.nan, train_accuracy=0.2, validation_accuracy=0.25))
    draw_curves(tmp_path)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **options: figures.append(self) or save(self, *args, **options)
    )
    return figures


def test_each_metric_has_a_panel_and_no_row_more_than_four(tmp_path, drawn):
    names = ["loss", "accuracy", "f1_macro", "f1_micro", "auc", "ece"]
    with Records(tmp_path) as record:
        record(moment(10, train_loss=0.5, train_accuracy=0.25))
        record(moment(20, **{f"validation_{name}": 0.5 for name in names}, validation_ema_accuracy=0.75))
    draw_curves(tmp_path)
    assert [axes.get_title() for axes in drawn[0].axes] == names
    assert [axes.get_subplotspec().colspan.start for axes in drawn[0].axes] == [0, 1, 2, 3, 0, 1]
    assert [axes.get_subplotspec().rowspan.start for axes in drawn[0].axes] == [0, 0, 0, 0, 1, 1]
    lines = {line.get_label(): line.get_xydata().tolist() for line in drawn[0].axes[1].lines}
    assert lines == {"train": [[10, 0.25]], "validation": [[20, 0.5]], "validation, ema": [[20, 0.75]]}
    seen = {(line.get_label(), line.get_color()) for axes in drawn[0].axes for line in axes.lines}
    assert len(seen) == len({label for label, _ in seen}) == len({colour for _, colour in seen})


def test_a_metric_that_never_was_a_number_has_no_panel(tmp_path, drawn):
    with Records(tmp_path) as record:
        record(moment(10, validation_loss=0.5, validation_auc=math.nan))
    draw_curves(tmp_path)
    assert [axes.get_title() for axes in drawn[0].axes] == ["loss"]


def test_a_run_without_moments_draws_nothing(tmp_path):
    Records(tmp_path).__exit__()
    draw_curves(tmp_path)
    assert not (tmp_path / "curves.png").exists()


def test_a_file_gets_plain_lines():
    file = io.StringIO()
    with ProgressLine(100, console=Console(file=file, width=200)) as progress:
        for step in range(10, 101, 10):
            progress(moment(step, train_loss=1 / step, **({"validation_accuracy": 0.5} if step == 50 else {})))
    shown = file.getvalue()
    metrics = "step 50/100  train/loss 0.0200  validation/accuracy 0.5000"
    assert f"{metrics}  1,280 images/s  50 ms/step, data 0  0:00:02 left" in shown
    assert "\r" not in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 10


NAMES = ("loss", "accuracy", "f1_macro", "auc", "ema_loss", "ema_accuracy", "ece", "precision_macro", "recall_macro")


@pytest.mark.parametrize(
    ("width", "in_line", "in_row"),
    [
        (60, 0, ["train/accuracy", "validation/accuracy"]),
        (80, 0, ["train/accuracy", "validation/loss", "validation/accuracy"]),
        (110, 2, ["train/loss", "train/accuracy", "validation/loss", "validation/accuracy", "validation/f1_macro"]),
        (200, 2, ["train/loss", "train/accuracy", *(f"validation/{name}" for name in NAMES[:7])]),
    ],
)
def test_a_terminal_of_any_width_gets_step_bar_rate_and_time_and_what_metrics_fit(width, in_line, in_row):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, color_system=None)
    with ProgressLine(1_500_000, first=("accuracy", "loss"), console=console) as progress:
        for step in range(10, 41, 10):
            held_out = {f"validation_{name}": 0.5 for name in NAMES} if step == 20 else {}
            progress(moment(step, train_loss=1 / step, train_accuracy=0.25, **held_out)._replace(steps=1_500_000))
            frame = re.split(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]", file.getvalue().rstrip("\n"))[-1]
            assert len(frame) < width
            assert re.match(rf"step {step}/1500000  [━╸╺ ]+  1,280 images/s  20:\d\d:\d\d left", frame), frame
            assert len(re.findall(r"/\w+ \d\.\d{4}", frame)) >= in_line
    head, row = (
        line for line in re.split(r"[\r\n]", file.getvalue()) if line.split()[-1:] in (["images/s"], ["1,280"])
    )
    head, row = (re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in (head, row))
    assert head.split() == ["step", *in_row, "images/s"]
    assert len(head) == len(row) <= width
    assert row.split()[0] == "20"
    assert [row[match.end() - 1] != " " for match in re.finditer(r"\S+", head)] == [True] * len(head.split())


def test_a_warning_has_a_line_of_its_own():
    file = io.StringIO()
    with ProgressLine(100, console=Console(file=file)) as progress:
        progress(moment(10, train_loss=1.0)._replace(warnings=["The samples are all alike."]))
    assert "step 10: The samples are all alike.\n" in file.getvalue()


def test_a_warning_is_seen_where_nothing_else_is(capsys):
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), ProgressLine(100) as progress:
        progress(moment(10, train_loss=1.0)._replace(warnings=["The samples are all alike."]))
    assert capsys.readouterr() == ("", "step 10: The samples are all alike.\n")


def test_of_many_metrics_the_line_shows_loss_and_accuracy():
    names = ["accuracy", "auc", "ece", "ema_accuracy", "f1_macro", "loss"]
    file = io.StringIO()
    with ProgressLine(100, first=("loss", "accuracy", "ema_accuracy"), console=Console(file=file)) as progress:
        progress(moment(10, train_loss=1.0, train_accuracy=0.0, **{f"validation_{name}": 0.5 for name in names}))
    metrics = file.getvalue().removeprefix("step 10/100  ").partition("  1,280")[0]
    assert metrics == (
        "train/loss 1.0000  train/accuracy 0.0000  "
        "validation/loss 0.5000  validation/accuracy 0.5000  validation/ema_accuracy 0.5000"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.0000"),
        (0.98765, "0.9877"),
        (-12.5, "-12.5000"),
        (3e-5, "3.0e-05"),
        (-3e-5, "-3.0e-05"),
        (1.5e9, "1.5e+09"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_a_small_number_is_not_shown_as_nothing(value, shown):
    assert text_of(value) == shown


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["fid", "loss", "kl"], ["fid", "loss", "kl"]),
        (["accuracy", "auc", "ece", "loss"], ["loss", "accuracy"]),
        (["a", "b", "c", "d"], ["a", "b", "c"]),
        ([], []),
    ],
)
def test_a_headline_is_all_where_that_is_little(names, shown):
    assert select(names, ("loss", "accuracy"), 3) == shown
