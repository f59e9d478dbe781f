"""Real runs of several processes, joined over gloo on 127.0.0.1, against one process."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import types

import jax
import numpy as np
import PIL.Image
import pytest
from sklearn.datasets import load_digits

import launch
from jaxrec.data.batches import train_batches
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.machine import exits
from jaxrec.trees import paths

ROOT = pathlib.Path(__file__).parents[1]
SLOW, LONG = pytest.mark.slow, pytest.mark.long
USUAL = ((2, 2, "fsdp"), (4, 1, "replicate"))  # processes, devices of each, rule
TINY = (
    f"--config={ROOT}/configs/digits_cnn.py",
    "--config.train={'batch_size': 16, 'steps': 30, 'log_every': 10, 'eval_every': 10, 'evaluate_train': False}",
    "--config.data={'name': 'digits', 'validation': 0.1}",
    "--config.model={'name': 'MLP', 'widths': (8,)}",
    "--config.optimizer={'name': 'sgd', 'learning_rate': 0.1}",
)
# Of the programs only rounding is looked at here, and compiling them is most of what a run takes.
ALONE = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
STARTED: list[subprocess.Popen] = []


def start(*flags: str, python: str = "", **environment: str) -> subprocess.Popen:
    """Starts launch.py, or what `python` says, where the processes have a device each."""
    command = [sys.executable, *(("-c", python) if python else ("launch.py",)), *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    STARTED.append(subprocess.Popen(command, cwd=ROOT, env={**ALONE, **environment}, text=True, **pipes))
    return STARTED[-1]


@pytest.fixture(autouse=True)
def _none_is_left():
    """Ends what a test that has failed has left running."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


def launched(*flags: str, **environment: str) -> str:
    process = start(*flags, **environment)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out


def records(folder: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def result(folder: pathlib.Path) -> dict:
    return json.loads((folder / "result.json").read_text())["metrics"]


def state(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """What the newest checkpoint of a run holds, by path."""
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        return {path: np.asarray(leaf) for path, leaf in paths(checkpoints.read(checkpoints.latest())).items()}


def close(one: dict, other: dict) -> None:
    """Equal but for the order in which gradients are added up."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--cluster", "--processes=2"), "--cluster finds processes, coordinator and process_id out"),
        (("--process_id=1", "--processes=2"), "--process_id is one of three"),
        (("--coordinator=127.0.0.1:80", "--process_id=1"), "--coordinator is one of three"),
        (("--cluster", "--restarts=2"), "A cluster starts its own anew"),
        (("--processes=2", "--seeds=2"), "--seeds and --processes do not go together"),
        (("--restarts=2", "--smoke"), "--smoke and --restarts do not go together"),
        (("--cluster",), "--cluster: JAX finds none here"),
        (
            ("--coordinator=127.0.0.1:80", "--process_id=2", "--processes=2"),
            "2 processes have the numbers 0 to 1",
        ),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, said, capsys):
    assert launch.main([*TINY, *flags]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[int, pathlib.Path]:
    """The same run in one process and in two."""
    folder = tmp_path_factory.mktemp("runs")
    launched(*TINY, f"--workdir={folder}/1")
    out = launched(*TINY, f"--workdir={folder}/2", "--processes=2")
    assert "cpu x 2 in 2 processes" in out
    assert out.count("step 30/30") == 1, "both processes show what they do"
    assert "Gloo" not in out
    return {1: folder / "1", 2: folder / "2"}


def test_two_processes_learn_what_one_does(runs):
    one, two = records(runs[1]), records(runs[2])
    assert [record["step"] for record in two] == [10, 20, 30]
    for expected, found in zip(one, two, strict=True):
        close(expected, found)
    close(state(runs[1]), state(runs[2]))


def test_two_processes_measure_what_one_does(runs):
    one, two = result(runs[1]), result(runs[2])
    assert one.keys() == two.keys()
    for split in one:
        close(one[split], two[split])
    # To the last of 360 examples: of the last eight, which are half a batch, the second process has none.
    assert one["test"]["accuracy"] == two["test"]["accuracy"]


def test_one_process_owns_the_folder(runs):
    """What the others write is thrown away, but for their part of the checkpoints."""
    names = [{str(path.relative_to(runs[count])) for path in runs[count].iterdir()} for count in (1, 2)]
    assert names[0] == names[1]
    assert len(json.loads((runs[2] / "environment.json").read_text())) == 1


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> tuple[dict, subprocess.CompletedProcess]:
    """What two processes found in tests/together.py, and how they ended: the second fails in the end."""
    folder = tmp_path_factory.mktemp("together")
    with Checkpoints(folder / "one") as checkpoints:
        checkpoints.save(1, {"whole": jax.numpy.arange(6.0), "split": jax.numpy.arange(8.0)})
    program = "from jaxrec.machine.supervisor import supervise as s; import sys; sys.exit(s(sys.argv[1:], processes=2))"
    process = start(sys.executable, "tests/together.py", python=program, FOLDER=str(folder), PYTHONPATH=str(ROOT))
    out, errors = process.communicate(timeout=120)
    assert out.startswith("process 0\n{"), errors
    assert "\nprocess 1" not in out
    return json.loads(out.splitlines()[1]), subprocess.CompletedProcess([], process.returncode, out, errors)


def test_the_processes_of_a_job_agree(together):
    found, _ = together
    assert found["least"] == [3, 2]
    assert found["agreed"] is None
    assert "process 1 has config.seed = 1, process 0 has 0. Start" in found["facts"]
    assert re.search("process 1 has state.kernel = [0-9a-f]{16}, process 0 has [0-9a-f]{16}", found["state"])
    assert "is for the devices of one process" in found["pmap"]
    assert found["key"] == jax.random.key_data(jax.random.key(5)).tolist()


def test_a_step_holds_the_same_examples_in_any_number_of_processes(together):
    batches = train_batches({"image": np.zeros((21, 2))}, batch_size=8, seed=3)
    assert together[0]["ids"] == [batches.host(step)["id"].tolist() for step in range(6)]


def test_a_checkpoint_is_the_same_in_one_process_and_in_two(together):
    expected = [np.arange(8.0).tolist(), np.arange(6.0).tolist()]
    assert together[0]["one"] == expected
    assert together[0]["both"] == expected


def test_two_folders_save_the_same_step_at_once(together):
    """As a run does that is stopped at a step that it saves: in one folder as it was to, in another because of it."""
    assert together[0]["two_folders"] == [1, 1]


def test_nothing_listens_but_on_the_address_of_the_coordinator(together):
    """Process 0: what JAX's coordinator and gloo listen at."""
    addresses = {address.rpartition(":")[0] for address in together[0]["listening"]}
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, of either kind
    assert len(together[0]["listening"]) >= 2


def test_the_first_to_fail_is_named_last_after_its_traceback(together):
    done = together[1]
    assert done.returncode == 1
    *_, error, last = done.stderr.splitlines()
    assert error == "RuntimeError: out of luck"
    assert last.startswith("launch.py: process 1 of 2 was the first to fail: exit code 1.")


def test_one_that_has_lost_another_lets_it_end_first(monkeypatch):
    """Else the parent, which sees both end within milliseconds, may name the wrong one."""

    def lost(*_: object) -> int:
        raise ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer")

    slept = []
    monkeypatch.setattr(exits, "time", types.SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr("experiments.start.start", lost)
    assert launch.main([*TINY]) == 1
    assert slept == [exits.TURN]
    exits.give_turn(ValueError("another"))
    assert slept == [exits.TURN]


def same_to_the_bit(one: pathlib.Path, other: pathlib.Path) -> None:
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    assert result(one) == result(other)
    ones, others = state(one), state(other)
    assert {path: leaf.tobytes() for path, leaf in ones.items()} == {
        path: leaf.tobytes() for path, leaf in others.items()
    }


def process_of(parent: subprocess.Popen, process_id: int) -> int:
    """The pid of one of the processes that a launcher has started."""
    for file in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            is_child = file.read_text().rpartition(")")[2].split()[1] == str(parent.pid)
            if is_child and f"--process_id={process_id}".encode() in (file.parent / "cmdline").read_bytes():
                return int(file.parent.name)
    raise AssertionError("it is not there")


def wait_for(file: pathlib.Path, words: str = "") -> None:
    until = time.monotonic() + 120
    while not (file.exists() and words in file.read_text()):
        assert time.monotonic() < until, f"{file} does not come"
        time.sleep(0.02)


LONGER = [flag.replace("'steps': 30", "'steps': 600, 'save_every': 200") for flag in TINY]


@pytest.fixture(scope="module")
def longer(tmp_path_factory) -> pathlib.Path:
    """An unbroken run of two processes that takes long enough to be struck."""
    folder = tmp_path_factory.mktemp("longer") / "run"
    launched(*LONGER, f"--workdir={folder}", "--processes=2")
    return folder


@pytest.mark.parametrize("process_id", [pytest.param(0, marks=LONG), pytest.param(1, marks=SLOW)])
def test_a_killed_process_ends_the_others_and_a_restart_comes_to_the_same_bits(process_id, longer, tmp_path):
    run = start(*LONGER, f"--workdir={tmp_path}/run", "--processes=2", "--restarts=1")
    wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 300')
    os.kill(process_of(run, process_id), signal.SIGKILL)
    _, errors = run.communicate(timeout=200)
    assert run.returncode == 0, errors
    assert f"process {process_id} of 2 was the first to fail: killed by SIGKILL" in errors
    same_to_the_bit(longer, tmp_path / "run")


@pytest.mark.parametrize("process_id", [pytest.param(0, marks=LONG), pytest.param(1, marks=SLOW)])
def test_sigterm_to_one_process_stops_all_at_one_step(process_id, longer, tmp_path):
    flags = (*LONGER, f"--workdir={tmp_path}/run", "--processes=2")
    run = start(*flags)
    wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 300')
    os.kill(process_of(run, process_id), signal.SIGTERM)
    _, errors = run.communicate(timeout=100)
    assert run.returncode == 75, errors
    assert re.fullmatch(r"launch.py: terminated: stopped at step \d+. The same command goes on from there.\n", errors)
    launched(*flags)
    same_to_the_bit(longer, tmp_path / "run")


@LONG
def test_a_run_goes_on_in_another_number_of_processes(longer, tmp_path):
    flags = (*LONGER, f"--workdir={tmp_path}/run")
    for processes, step in ((1, 100), (2, 250), (4, 400)):
        run = start(*flags, f"--processes={processes}")
        wait_for(tmp_path / "run" / "metrics.jsonl", f'"step": {step}')
        run.send_signal(signal.SIGTERM)
        _, errors = run.communicate(timeout=100)
        assert run.returncode == 75, errors
    launched(*flags)
    for expected, found in zip(records(longer)[:20], records(tmp_path / "run")[:20], strict=True):
        close(expected, found)
    assert [record["step"] for record in records(tmp_path / "run")] == [record["step"] for record in records(longer)]


@pytest.mark.parametrize(
    ("processes", "devices", "rule"),
    [
        pytest.param(processes, devices, rule, marks=SLOW if (processes, devices, rule) in USUAL else LONG)
        for processes, devices in [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2)]
        for rule in ("replicate", "fsdp")
    ],
)
def test_processes_and_devices_learn_what_one_device_does(processes, devices, rule, runs, tmp_path):
    flags = [flag.replace("'steps': 30", f"'steps': 30, 'rule': '{rule}'") for flag in TINY]
    launched(*flags, f"--workdir={tmp_path}/run", f"--processes={processes}", JAX_NUM_CPU_DEVICES=str(devices))
    for expected, found in zip(records(runs[1]), records(tmp_path / "run"), strict=True):
        close(expected, found)
    close(state(runs[1]), state(tmp_path / "run"))
    assert result(runs[1])["test"]["accuracy"] == result(tmp_path / "run")["test"]["accuracy"]


OTHERS = {
    "digits_autoencoder": ("--config.model.widths=(16,)",),
    "digits_vae": ("--config.model.widths=(16,)", "--config.nll_samples=2"),
    "digits_gan": ("--config.generator.widths=(4, 4)", "--config.discriminator.widths=(4, 4)"),
    "digits_cnn": ("--config.model={'name': 'MLP', 'widths': (8,)}", "--config.optimizer.learning_rate=1e-3"),
}


@pytest.mark.long
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_each_kind_of_learning_is_the_same_in_two_processes(name, stream, tmp_path):
    digits = load_digits()
    for index in range(165):  # the last batch of each split leaves one process with less, or nothing
        file = tmp_path / "digits" / str(digits.target[index]) / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.uint8(digits.images[index] * 15)).save(file)
    data = {"name": "folder", "path": f"{tmp_path}/digits", "channels": 1, "stream": stream}
    train = ("epochs=None", "steps=20", "batch_size=16", "log_every=5", "eval_every=10")
    flags = [f"--config={ROOT}/configs/{name}.py", f"--config.data={data}", *OTHERS[name]]
    flags += [f"--config.train.{setting}" for setting in train]
    for processes in (1, 2):
        launched(*flags, f"--workdir={tmp_path}/{processes}", f"--processes={processes}")
    for expected, found in zip(records(tmp_path / "1"), records(tmp_path / "2"), strict=True):
        close(expected, found)
    one, two = result(tmp_path / "1"), result(tmp_path / "2")
    for split in one:
        close({name: value for name, value in one[split].items() if value is not None}, two[split])


@pytest.mark.slow
def test_a_job_is_one_owner_of_its_folder(tmp_path):
    flags = (*LONGER, f"--workdir={tmp_path}/run", "--processes=2")
    run = start(*flags)
    wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 100')
    owner = process_of(run, 0)
    second = start(*flags)
    _, errors = second.communicate(timeout=100)
    assert second.returncode == 2
    assert f"belongs to a run that is still going (process {owner} on" in errors
    assert errors.count("\n") == 1
    run.kill()  # and with it, its processes
    run.communicate()
    launched(*flags)


@pytest.mark.slow
def test_a_process_alone_listens_nowhere(tmp_path):
    run = start(*LONGER, f"--workdir={tmp_path}/run")
    wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 100')
    inodes = {os.readlink(file) for file in pathlib.Path(f"/proc/{run.pid}/fd").iterdir()}
    tables = [pathlib.Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    listening = [row.split()[9] for table in tables for row in table if row.split()[3] == "0A"]
    run.kill()
    run.communicate()
    assert not inodes & {f"socket:[{inode}]" for inode in listening}


@pytest.mark.slow
def test_processes_of_different_configs_refuse_before_the_first_step(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        coordinator = f"127.0.0.1:{server.getsockname()[1]}"
    flags = (*TINY, f"--workdir={tmp_path}/run", "--processes=2", f"--coordinator={coordinator}")
    job = [start(*flags, f"--process_id={each}", f"--config.seed={each}") for each in (0, 1)]
    said = [process.communicate(timeout=100)[1] for process in job]
    assert [process.returncode for process in job] == [2, 2]
    assert said[0] == said[1]
    assert "process 1 has config.seed = 1, process 0 has 0. Start all in the same way.\n" in said[0]
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
