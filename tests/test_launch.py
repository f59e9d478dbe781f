"""The command line, from flags to what a run leaves behind."""

import functools
import importlib
import inspect
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from unittest.mock import Mock

import numpy as np
import pytest

import launch
from experiments import classify
from experiments.settings.command_line import COMMANDS
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.output.records import read

ROOT = pathlib.Path(__file__).parents[1]

SMALL = [
    f"--config={ROOT}/configs/digits_cnn.py",
    "--config.model.widths=(4,)",
    "--config.model.hidden=(8,)",
    "--config.train.batch_size=16",
    "--config.train.epochs=None",
    "--config.train.eval_every=50",
]


def run_alone(*flags: str, python: str = "pass", **environment: str) -> subprocess.CompletedProcess:
    """Runs launch.py in a process of its own, on one device, after the statements in `python`."""
    program = f"import sys, runpy; {python}; runpy.run_path('launch.py', run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[pathlib.Path, subprocess.CompletedProcess]:
    """1,000 steps with TensorFlow out of reach and the output piped."""
    workdir = tmp_path_factory.mktemp("runs") / "small"
    done = run_alone(
        *SMALL, "--config.train.steps=1000", f"--workdir={workdir}", python="sys.modules['tensorflow'] = None"
    )
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_a_piped_run_is_short_and_plain(finished):
    _, done = finished
    assert done.stdout.startswith("cpu x 1 (")
    assert len(done.stdout.splitlines()) < 60
    assert "\r" not in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_a_run_leaves_its_records(finished):
    workdir, done = finished
    assert {path.name for path in workdir.iterdir()} >= {
        *("config.json", "environment.json", "checkpoints", "metrics.jsonl", "tensorboard", "curves.png", "result.json")
    }
    assert [record["step"] for record in read(workdir / "metrics.jsonl")] == list(range(50, 1001, 50))
    (environment,) = json.loads((workdir / "environment.json").read_text())
    assert environment["versions"].keys() >= {"jax", "flax", "optax"}
    result = json.loads((workdir / "result.json").read_text())
    best = max(record["validation/accuracy"] for record in read(workdir / "metrics.jsonl"))
    assert result["metrics"]["validation"]["accuracy"] == best > 0.5  # chance is 0.1
    assert f"{100 * result['metrics']['test']['accuracy']:.2f} %" in done.stdout
    assert str(workdir) in done.stdout


def test_the_same_command_says_that_the_run_is_finished(finished, capsys):
    workdir, done = finished
    assert launch.main([*SMALL, "--config.train.steps=1000", f"--workdir={workdir}"]) == 0
    shown = capsys.readouterr().out
    assert "This run is finished" in shown
    assert (
        done.stdout.partition("split")[2].partition("\n\n")[0].splitlines()[2:5]
        == (shown.partition("split")[2].splitlines()[2:5])
    )


def test_another_config_on_the_folder_is_refused_with_the_difference(finished, capsys):
    workdir, _ = finished
    before = {path: path.read_bytes() for path in workdir.glob("*.json*")}
    assert launch.main([*SMALL, "--config.train.steps=999", "--config.seed=1", f"--workdir={workdir}"]) == 2
    line = capsys.readouterr().err
    assert "config.train.steps: 1000 -> 999; config.seed: 0 -> 1" in line
    assert "--fresh" in line
    assert line.count("\n") == 1
    assert {path: path.read_bytes() for path in workdir.glob("*.json*")} == before


def test_a_run_of_an_older_version_goes_on_where_the_defaults_are_its_own(finished, tmp_path, capsys):
    """Keys that its version did not have yet count as their defaults, others are read under the names they have now."""
    workdir = shutil.copytree(finished[0], tmp_path / "old")
    file = workdir / "config.json"
    whole = json.loads(file.read_text())
    older = {**whole, "model": {**whole["model"]}, "train": {**whole["train"]}, "ema": 0.0, "labels": None}
    del older["updates"], older["model"]["kernel"], older["train_images"], older["train"]["submodule"]
    flags = [*SMALL, "--config.train.steps=1000", f"--workdir={workdir}"]
    file.write_text(json.dumps(older))
    assert launch.main(flags) == 0
    assert "This run is finished" in capsys.readouterr().out
    assert json.loads(file.read_text()) == whole
    file.write_text(json.dumps(older))
    assert launch.main([*flags, "--config.updates.ema=0.9"]) == 2
    assert "(config.updates.ema: 0.0 -> 0.9)" in capsys.readouterr().err
    file.write_text(json.dumps({**whole, "gone": 3}))
    assert launch.main(flags) == 2
    assert "(config.gone: 3 -> None)" in capsys.readouterr().err


def test_a_killed_run_goes_on_to_the_same_bits(finished, tmp_path):
    """SIGTERM at some step of the run, SIGKILL at another, and the same command again each time."""
    whole, _ = finished
    workdir = tmp_path / "killed"
    flags = [*SMALL, "--config.train.steps=1000", f"--workdir={workdir}"]
    for number, step in ((signal.SIGTERM, 200), (signal.SIGKILL, 450)):
        process = subprocess.Popen(
            [sys.executable, "launch.py", *flags],
            cwd=ROOT,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in process.stdout:
            if line.startswith(f"step {step}/"):
                process.send_signal(number)
                break
        _, errors = process.communicate()
        if number == signal.SIGTERM:
            assert process.returncode == 75
            stopped = int(re.fullmatch(r"launch.py: terminated: stopped at step (\d+)\. .*\n", errors)[1])
            assert 200 <= stopped < 450
    process.stdout.close()
    done = run_alone(*flags)
    assert done.returncode == 0, done.stderr
    assert f"Resuming {workdir} at step" in done.stdout
    assert re.search(r"Compile cache: [1-9]\d* hits, 0 misses in ", done.stdout)  # the whole run filled it
    assert (workdir / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    first, second = (json.loads((folder / "result.json").read_text()) for folder in (whole, workdir))
    assert first["metrics"] == second["metrics"]
    assert len(json.loads((workdir / "environment.json").read_text())) == 3  # a note for each process
    resumed_at = int(done.stdout.partition("at step ")[2].partition(" ")[0])
    assert second["training_seconds"] > 0
    assert second["examples"] == first["examples"] == 16_000 > 16 * resumed_at
    for name, stored in stored_arrays(whole).items():
        assert stored.tobytes() == stored_arrays(workdir)[name].tobytes(), name


def stored_arrays(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint."""
    import orbax.checkpoint as ocp

    with Checkpoints(workdir / "checkpoints") as checkpoints:
        step = checkpoints.latest()
    tree = ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(step) / "default")
    import jax

    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished[0], tmp_path / "damaged")
    (workdir / "result.json").unlink()
    before = (workdir / "metrics.jsonl").read_bytes()
    for manifest in workdir.glob("checkpoints/*/manifest.json"):
        manifest.write_text("{")
    with pytest.warns(UserWarning, match="is not used"):
        assert launch.main([*SMALL, "--config.train.steps=1000", f"--workdir={workdir}"]) == 2
    assert "no checkpoint there is as it was written; that of step 1000: " in capsys.readouterr().err
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_fresh_moves_the_old_run_aside(finished, tmp_path, capsys):
    flags = [*SMALL, "--config.train.steps=2", f"--workdir={tmp_path}/run"]
    assert launch.main(flags) == 0
    old = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert launch.main([*flags, "--config.seed=1", "--fresh"]) == 0
    (aside,) = (path for path in tmp_path.iterdir() if path.name != "run")
    assert (aside / "metrics.jsonl").read_text() == old != (tmp_path / "run" / "metrics.jsonl").read_text()
    capsys.readouterr()


def test_a_config_json_repeats_its_run(finished, tmp_path, capsys):
    workdir, _ = finished
    assert launch.main([f"--config={workdir}/config.json", f"--workdir={workdir}"]) == 0
    assert "This run is finished" in capsys.readouterr().out


def test_a_folder_has_one_owner(tmp_path, capsys):
    flags = [*SMALL, "--config.train.steps=100000", f"--workdir={tmp_path}/run"]
    owner = subprocess.Popen([sys.executable, "launch.py", *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        while not owner.stdout.readline().startswith("step "):
            assert owner.poll() is None
        assert launch.main(flags) == 2
        assert f"process {owner.pid} on " in capsys.readouterr().err
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()


def test_the_smoke_test_goes_through_every_phase(capsys):
    warmup = {"name": "warmup_cosine_decay_schedule", "init_value": 0.0, "peak_value": 0.1, "warmup_steps": 20}
    flags = [*SMALL, "--config.train.steps=50", f"--config.optimizer.learning_rate={warmup}"]
    assert launch.main([*flags, "--smoke"]) == 0
    shown = capsys.readouterr().out
    for phase in ("step 1/1", "Resuming", "at step 1 of 50", "step 2/2", "validation/accuracy", "its folder is gone"):
        assert phase in shown


def test_validation_chooses_and_test_is_read_once_at_the_end(tmp_path, monkeypatch, capsys):
    """Every batch that is asked for, in order, with the split it belongs to."""
    asked: list[tuple[str, tuple[int, ...]]] = []
    build = classify.build

    def watched(batches, split):
        def host(step):
            rows = batches.host(step)
            asked.append((split, tuple(rows["id"])))
            return rows

        return batches._replace(host=host)

    @functools.wraps(build)
    def watching(**config):
        experiment = build(**config)
        splits = {split: watched(batches, split) for split, batches in experiment.splits.items()}
        return experiment._replace(train=watched(experiment.train, "training"), splits=splits)

    monkeypatch.setattr(classify, "build", watching)
    assert launch.main([*SMALL, "--config.train.steps=100", f"--workdir={tmp_path}/run"]) == 0
    capsys.readouterr()
    order = [split for split, _ in asked]
    last_training = max(index for index, split in enumerate(order) if split == "training")
    assert "test" not in order[:last_training]
    assert "validation" in order[:last_training]
    ids = {split: [i for s, rows in asked for i in rows if s == split and i >= 0] for split in set(order)}
    assert not set(ids["training"]) & set(ids["validation"])
    assert not (set(ids["training"]) | set(ids["validation"])) & set(ids["test"])
    assert len(ids["test"]) == len(set(ids["test"])) == 360


@pytest.mark.slow
def test_a_hook_of_an_experiment_may_end_its_run(tmp_path, monkeypatch, capsys):
    build = classify.build

    @functools.wraps(build)
    def ending(**config):
        return build(**config)._replace(watch=lambda workdir: [lambda moment: moment.step >= 50])

    monkeypatch.setattr(classify, "build", ending)
    model = "--config.model={'name': 'MLP', 'widths': (8,)}"
    train = "--config.train={'batch_size': 16, 'steps': 200, 'eval_every': 50, 'evaluate_train': False}"
    assert launch.main([SMALL[0], model, train, f"--workdir={tmp_path}/run"]) == 0
    assert "step 100/200" not in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "result.json").read_text())["step"] == 50


def test_bad_command_lines_end_with_code_2_and_one_line(capsys, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for flags, said in [
        (["--config=configs/nothing.py"], "no such .py or .json file"),
        ([*SMALL, "--config.train.steps=2", "--wrkdir=x"], "Did you mean 'workdir'"),
        ([*SMALL, "--config.train.steps=2", "--platform=gup"], "cpu|gpu|tpu"),
        ([*SMALL, "--config.train.steps=2", "train"], "Unknown command 'train'"),
        ([*SMALL, "--config.train.steps=2", "--config.train.batch_size=12"], "batch_size = 12"),
        ([*SMALL, "--config.train.steps=2", f"--workdir={file}"], "cannot make this folder"),
        ([*SMALL, "--config.train.steps=2", "--config.data={'name': 'npz', 'path': 'none.npz'}"], "no such file"),
        ([*SMALL, "--config.train.steps=2", "--config.model.widths=(4,4,4,4)"], "nothing is left of an image"),
        ([*SMALL, "--config.train.epochs=1e12"], "steps are counted to 2,147,483,647"),
        ([*SMALL, "--config.train.steps=2", "--config.train.batch_size=1000000000000"], "a batch has from 1 to 2,147"),
    ]:
        flags = [flag for flag in flags if "batch_size=16" not in flag or "12" not in str(flags)]
        assert (
            launch.main([*flags, *([] if any("workdir" in f for f in flags) else [f"--workdir={tmp_path}/run"])]) == 2
        )
        line = capsys.readouterr().err
        assert said in line
        assert line.count("\n") == 1
    assert not (tmp_path / "run").exists(), "a run that never started left something behind"


def test_debug_shows_where_an_error_was_raised_and_changes_no_exit_code(capsys):
    assert launch.main([*SMALL, "--config.seed=-1", "--debug"]) == 2
    assert re.search(r"^Traceback .*\nlaunch\.py: config\.seed = -1: [^\n]*\n$", capsys.readouterr().err, re.DOTALL)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["--workdir="], "--workdir"),
        (["--workdir", ""], "--workdir"),
        (["--platform="], "--platform"),
        (["--seeds="], "--seeds"),
        (["--config.data.path="], "--config.data.path"),
        (["sample", "--workdir=run", "--images="], "--images"),
        (["--workdir"], "--workdir"),
        (["--seeds=2", "--platform"], "--platform"),
        (["--config"], "--config"),
        (["--config.seed"], "--config.seed"),
        (["--workdir", "--smoke"], "--workdir"),
        (["--seeds", "--workdir=run"], "--seeds"),
        (["--config.seed", "--fresh"], "--config.seed"),
        (["compare", "a", "b", "--split"], "--split"),
    ],
)
def test_an_empty_flag_is_no_default(flags, name, capsys):
    """A shell makes one of --workdir=$FOLDER where FOLDER is not set; a value may also be forgotten."""
    assert launch.main([*SMALL, *flags]) == 2
    assert capsys.readouterr().err == f"launch.py: {name} is empty: give it a value, {name}=..., or leave it out.\n"


@pytest.mark.parametrize(
    ("words", "place"),
    [(["compare", "", "b"], " behind compare"), (["--workdir=run", ""], " behind --workdir=run"), ([""], "")],
)
def test_an_empty_word_is_not_taken_for_the_value_of_what_is_no_flag(words, place, capsys):
    assert launch.main(words) == 2
    line = f"launch.py: There is an empty word{place}: say what is meant there, or leave it out.\n"
    assert capsys.readouterr().err == line


def test_a_warning_is_one_line(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    assert launch.main(["--config=configs/nothing.py"]) == 2
    assert warnings.formatwarning("Look.", UserWarning, "file.py", 3) == "WARNING: Look.\n"


def test_a_diverged_run_ends_with_code_76_and_keeps_what_was_good(tmp_path, capsys):
    flags = [*SMALL, "--config.train.steps=100", "--config.optimizer.learning_rate=1e30", f"--workdir={tmp_path}/run"]
    assert launch.main(flags) == 76
    line = capsys.readouterr().err
    assert "training diverged" in line
    assert line.count("\n") == 1
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_run_may_go_on_in_another_way(tmp_path, capsys):
    flags = [*SMALL, "--config.train.steps=2", f"--workdir={tmp_path}/run"]
    assert launch.main(flags) == 0
    assert launch.main([*flags, "--config.train.rule=fsdp", "--config.train.keep=2"]) == 0
    assert "This run is finished" in capsys.readouterr().out


def test_folders_whose_name_is_a_pattern_are_refused(tmp_path, capsys):
    assert launch.main([*SMALL, "--config.train.steps=2", f"--workdir={tmp_path}/a[b]"]) == 2
    assert "cannot be read back" in capsys.readouterr().err


def test_the_doctor_comes_to_a_machine_without_jax():
    done = run_alone("doctor", python="sys.modules['jax'] = None; sys.modules['absl'] = None")
    assert done.returncode == 1
    assert "TROUBLE: JAX does not start" in done.stdout
    assert done.stderr == ""


def test_a_platform_that_is_not_there_is_said():
    done = run_alone(*SMALL, "--config.train.steps=2", "--platform=gpu", JAX_PLATFORMS="")
    assert done.returncode == 2
    assert done.stderr.startswith("launch.py: --platform=gpu: JAX finds none here. Install its plugin")
    assert done.stderr.count("\n") == 1


def test_help_is_the_docstring(capsys):
    assert launch.main(["--help"]) == 0
    assert "--workdir=FOLDER" in capsys.readouterr().out


@pytest.mark.parametrize("command", [*COMMANDS, "doctor"])
def test_the_help_of_a_command_is_its_own_and_its_example_is_understood(command, capsys, monkeypatch):
    """Its line, each of its arguments with what it means and may be, and a command line that starts it."""
    for words in ([command, "--help"], ["-h", command], ["help", command, "--quiet"]):
        assert launch.main(words) == 0
        shown = capsys.readouterr().out
    module = launch if command == "doctor" else importlib.import_module(f"experiments.commands.{command}")
    function = getattr(module, command)
    assert shown.startswith(inspect.getdoc(function).splitlines()[0])
    assert not re.search(r"\b(experiments|jaxrec)\.|-$", shown, re.M)  # no module, no word in two
    (example,) = re.findall(r"^Example:\n\n    python (launch.py .*)$", shown, re.M)
    started = Mock(return_value=0)
    monkeypatch.setattr("experiments.start.start", started)
    monkeypatch.setattr(launch, "doctor", started)
    monkeypatch.chdir(ROOT)
    assert launch.main(shlex.split(example)[1:]) == 0
    started.assert_called_once()


def test_the_help_of_a_command_says_what_its_arguments_are_by_default(capsys):
    assert launch.main(["compare", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--split=...\n        on which they are compared.\n        'validation', 'test'; 'test' by default" in shown
    assert "RUNS ...\n        folders of finished runs" in shown
    assert "one path or more; needed" in shown
    assert launch.main(["runs", "--help"]) == 0
    assert "one path or more; runs by default" in capsys.readouterr().out
    assert launch.main(["sample", "--help"]) == 0
    assert re.search(r"^    --workdir=FOLDER\n        .*\n        needed$", capsys.readouterr().out, re.M)
    assert launch.main(["sweep", "--help"]) == 0
    shown = capsys.readouterr().out
    for written in (
        "--config=FILE --config.KEY=VALUE ...",
        "--workdir=FOLDER",
        "--space.KEY=VALUE ...",
        "--trials=...",
    ):
        assert f"    {written}\n        " in shown
    assert re.search(r"^    --config=FILE .*\n        .*\n        needed$", shown, re.M)
    assert "        runs/sweep/<name of the config> by default\n" in shown
    assert launch.main(["verify", "--help"]) == 0
    assert "    --seal\n" in capsys.readouterr().out


def test_help_needs_no_jax_and_the_overview_and_the_doctor_s_no_absl():
    neither = ("jax", "absl")
    for words, absent in (["--help"], neither), (["doctor", "--help"], neither), (["compare", "--help"], ("jax",)):
        done = run_alone(*words, python=f"sys.modules.update(dict.fromkeys({absent}))")
        assert (done.returncode, done.stderr) == (0, "")


def test_launch_stays_short():
    lines = {file: len((ROOT / file).read_text().splitlines()) for file in ("launch.py", "jaxrec/engine/loop.py")}
    assert lines["launch.py"] < 120
    assert lines["jaxrec/engine/loop.py"] < 200
