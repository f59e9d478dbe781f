"""The list of runs: states, steps, best metrics, and that listing touches nothing."""

import fcntl
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

import pytest

import launch
from experiments.commands.runs import age, below, look

ROOT = pathlib.Path(__file__).parents[2]


def make(folder: pathlib.Path, *, accuracies: tuple[float, ...] = (0.5, 0.9, 0.8), owner: int = 0) -> pathlib.Path:
    folder.mkdir(parents=True)
    config = {"experiment": "classify", "monitor": "accuracy", "train": {"steps": 500}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "lock").write_text(f"process {owner} on {platform.node()} since 2020-01-01 00:00:00\n" if owner else "")
    records = [
        {"step": 50 * (place + 1), "train/loss": 1.0, "validation/loss": 0.3, "validation/accuracy": accuracy}
        for place, accuracy in enumerate(accuracies)
    ]
    lines = [json.dumps(record) for record in records]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_what_a_folder_says(tmp_path):
    run = look(make(tmp_path / "a"))
    assert run[1:5] == ("stopped", 150, 500, ("accuracy", 0.9))
    assert run.size == sum(file.stat().st_size for file in (tmp_path / "a").iterdir())
    assert run.seconds < 60


@pytest.mark.parametrize(
    ("file", "state"), [("result.json", "finished"), ("nan_report.json", "diverged"), ("other.json", "stopped")]
)
def test_the_state_of_a_run_that_nobody_owns(tmp_path, file, state):
    folder = make(tmp_path / "a")
    (folder / file).write_text('{"step": 3}')
    assert look(folder).state == state


def test_a_run_is_running_while_its_lock_is_held_not_while_a_process_of_that_number_is_there(tmp_path):
    folder = make(tmp_path / "a", owner=os.getpid())
    assert look(folder).state == "stopped"
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert look(folder).state == "running"
    assert look(folder).state == "stopped"


def test_the_lock_of_a_run_whose_process_is_gone_is_not_asked_for(tmp_path, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    folder = make(tmp_path / "a", owner=gone.pid)
    monkeypatch.setattr(fcntl, "flock", lambda *_: pytest.fail("a run that begins just now would be refused"))
    assert look(folder).state == "stopped"


def test_a_record_that_a_kill_has_cut_short_is_no_damage(tmp_path):
    folder = make(tmp_path / "a")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": "abc", "validation/accuracy": "x"}\n{"step": 200, "validation/accura')
    assert look(folder)[1:4] == ("stopped", 150, 500)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, '{"train": 3, "metrics": 3}'])
def test_a_damaged_run_is_called_so_and_its_file_named(tmp_path, capsys, content):
    folder, other = make(tmp_path / "a"), make(tmp_path / "b")
    for run in (folder, other):
        (run / "result.json").write_text('{"step": 3}')
    (folder / "config.json").write_text(content)
    assert look(folder)[1:4] == ("damaged", 150, None)
    assert launch.main(["runs", str(tmp_path)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if f"{folder} " in line]
    assert "damaged: config.json" in [cell.strip() for cell in line.split("│")]
    (folder / "result.json").write_text(content)
    assert look(folder).damaged == ["config.json", "result.json"]
    assert look(other).state == "finished"


def test_a_loss_is_best_where_it_is_lowest(tmp_path):
    folder = make(tmp_path / "a")
    (folder / "config.json").write_text('{"experiment": "vae"}')
    (folder / "metrics.jsonl").write_text('{"step": 1, "validation/loss": 3}\n{"step": 2, "validation/loss": 4}\n')
    assert look(folder).best == ("loss", 3)


def test_runs_are_found_below_in_the_order_of_their_numbers_and_not_within_runs(tmp_path):
    for name in ("b", "a/seed_10", "a/seed_9"):
        make(tmp_path / name)
    make(tmp_path / "b" / "checkpoints" / "within")
    assert [str(folder.relative_to(tmp_path)) for folder in below(tmp_path)] == ["a/seed_9", "a/seed_10", "b"]


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "0 s"), (59, "59 s"), (3600, "1 h"), (200000, "2 d")])
def test_ages(seconds, said):
    assert age(seconds) == said


def test_a_list_is_whole_in_a_pipe_and_imports_no_jax(tmp_path):
    name = "a_name_that_is_longer_than_a_table_of_eighty_columns_could_show_beside_the_other_columns"
    make(tmp_path / name)
    before = {file: file.stat() for file in sorted(tmp_path.rglob("*"))}
    code = "import sys, launch; launch.main(sys.argv[1:]); sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "runs", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/{name}" in done.stdout
    assert "150 of 500" in done.stdout
    after = {file: file.stat() for file in sorted(tmp_path.rglob("*"))}
    assert {file: stat.st_mtime_ns for file, stat in after.items()} == {f: s.st_mtime_ns for f, s in before.items()}


def test_bad_folders_are_a_line(tmp_path, capsys):
    assert launch.main(["runs", f"{tmp_path}/none"]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert launch.main(["runs", str(tmp_path)]) == 0
    assert "No runs in" in capsys.readouterr().out


@pytest.mark.slow
def test_a_thousand_runs_are_listed_in_seconds(tmp_path):
    for number in range(1000):
        folder = make(tmp_path / f"run_{number}", accuracies=(0.5,) * 100)
        (folder / "checkpoints" / "50").mkdir(parents=True)
        for part in range(20):
            (folder / "checkpoints" / "50" / str(part)).write_bytes(b"0" * 1000)
    began = time.perf_counter()
    assert len([look(run) for run in below(tmp_path)]) == 1000
    assert time.perf_counter() - began < 10


def test_a_run_that_came_to_its_last_step_and_was_not_measured_is_no_stopped_one(tmp_path):
    """As trials of a search are, but for the winner."""
    assert look(make(tmp_path / "a", accuracies=(0.5,) * 10))[1:4] == ("trained", 500, 500)


def test_quiet_prints_errors_alone(tmp_path, capsys):
    assert launch.main(["runs", str(tmp_path), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert launch.main(["runs", f"{tmp_path}/none", "--quiet"]) == 2
    assert capsys.readouterr() == ("", f"launch.py: {tmp_path}/none: no such folder. Name one in which runs lie.\n")


def test_a_run_whose_length_its_config_says_in_epochs_is_listed(tmp_path, capsys):
    folder = make(tmp_path / "a")
    (folder / "config.json").write_text(json.dumps({"experiment": "classify", "train": {"epochs": 2}}))
    assert launch.main(["runs", str(tmp_path)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "stopped" in line]
    assert "150" in [cell.strip() for cell in line.split("│")]
