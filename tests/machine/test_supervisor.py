"""The parent of a job, over processes that are a line of Python each."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# A job of two; `me` and `other` are numbers, `there` says that the other one has come.
CHILD = """
import os, pathlib, signal, sys, time
me = next(int(word.partition("=")[2]) for word in sys.argv if word.startswith("--process_id="))
folder = pathlib.Path(os.environ["FOLDER"])
attempt = len(list(folder.glob(f"{me}_*")))
(folder / f"{me}_{attempt}").write_text(str(os.getpid()))
while not (folder / f"{1 - me}_{attempt}").exists(): time.sleep(0.01)
"""
PARENT = """
import pathlib, os, sys
from jaxrec.machine.supervisor import supervise
folder = pathlib.Path(os.environ["FOLDER"])
def progress():
    return max([0, *(int(file.name) for file in folder.glob("[0-9]*") if file.name.isdigit())])
command = [sys.executable, "-c", sys.argv[1]]
options = {"restarts": int(sys.argv[2]), "again": [*command, "again"], "progress": progress}
sys.exit(supervise(command, processes=2, **options))
"""


def start(folder: pathlib.Path, what: str, restarts: int = 0) -> subprocess.Popen:
    command = [sys.executable, "-c", PARENT, CHILD + what, str(restarts)]
    environment = {**os.environ, "FOLDER": str(folder)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)


def gone(folder: pathlib.Path) -> bool:
    """Whether no child is left, a moment later at most."""
    pids = [file.read_text() for file in folder.glob("[0-9]_[0-9]*")]
    assert pids
    until = time.monotonic() + 5
    while (left := [pid for pid in pids if os.path.exists(f"/proc/{pid}")]) and time.monotonic() < until:
        time.sleep(0.01)
    return not left


@pytest.mark.parametrize(
    ("what", "code", "how"),
    [
        ("if me: os.kill(os.getpid(), signal.SIGKILL)", 1, "process 1 of 2 was the first to fail: killed by SIGKILL."),
        (  # what it has started lives on, and holds its standard error open
            "if me:\n  import subprocess; subprocess.Popen(['sleep', '15'])\n  os.kill(os.getpid(), signal.SIGKILL)",
            1,
            "process 1 of 2 was the first to fail: killed by SIGKILL.",
        ),
        ("if me: raise RuntimeError('out of luck')", 1, "process 1 of 2 was the first to fail: exit code 1."),
        ("if me: sys.exit(3)", 1, "process 1 of 2 was the first to fail: exit code 3."),
        ("if not me: sys.exit(77)", 77, "process 0 of 2 was the first to fail: exit code 77."),
    ],
)
def test_the_first_to_fail_is_named_last_and_the_others_end(tmp_path, what, code, how):
    began = time.monotonic()
    parent = start(tmp_path, f"{what}\ntime.sleep(60)")
    _, errors = parent.communicate(timeout=20)
    assert parent.returncode == code
    assert how in errors.splitlines()[-1]
    if "luck" in what:
        assert errors.splitlines()[-2] == "RuntimeError: out of luck"
    assert gone(tmp_path)
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_stopped_process_ends_the_job(tmp_path):
    parent = start(tmp_path, "if me: os.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(60)")
    _, errors = parent.communicate(timeout=20)
    assert parent.returncode == 1
    assert "process 1 of 2 was the first to fail: stopped by a signal" in errors.splitlines()[-1]
    assert gone(tmp_path)


def test_a_mistake_that_all_made_is_said_once(tmp_path):
    parent = start(tmp_path, "print('launch.py: no such thing', file=sys.stderr)\nsys.exit(2)")
    _, errors = parent.communicate(timeout=20)
    assert (parent.returncode, errors) == (2, "launch.py: no such thing\n")


def test_process_0_alone_is_heard_of_a_job_that_goes_well(tmp_path):
    parent = start(tmp_path, "print('out', me)\nprint('error', me, file=sys.stderr)")
    out, errors = parent.communicate(timeout=20)
    assert (parent.returncode, out, errors) == (0, "out 0\n", "error 0\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_is_handed_on_and_the_children_say_how_it_ends(tmp_path, number, code):
    what = f"""
def leave(number, frame):
    time.sleep(0.5 * (1 - me))  # process 0 saves longer
    (folder / f"saved_{{me}}").touch()
    os._exit({code})
signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGINT, leave)
(folder / f"ready_{{me}}").touch()
while True: time.sleep(1)
"""
    parent = start(tmp_path, what, restarts=3)
    while len(list(tmp_path.glob("ready_*"))) < 2:
        time.sleep(0.01)
    parent.send_signal(number)
    parent.communicate(timeout=20)
    assert parent.returncode == code
    assert len(list(tmp_path.glob("saved_*"))) == 2
    assert len(list(tmp_path.glob("0_*"))) == 1, "a job that was asked to end was started anew"


def test_a_signal_that_comes_before_they_are_there_is_handed_on_too():
    """Children that have not got as far as to say how they want to end are killed by it, which is no failure."""
    program = """
import os, signal, sys
from jaxrec.machine.supervisor import supervise
progress = lambda: os.kill(os.getpid(), signal.SIGTERM) or 0  # asked before the first is started
sys.exit(supervise([sys.executable, "-c", "import time; time.sleep(60)"], processes=2, restarts=2, progress=progress))
"""
    command, pipes = [sys.executable, "-c", program], {"capture_output": True, "text": True, "check": False}
    done = subprocess.run(command, cwd=ROOT, timeout=20, **pipes)
    assert (done.returncode, done.stderr) == (75, "")


def test_no_child_outlives_its_parent(tmp_path):
    parent = start(tmp_path, "time.sleep(60)")
    while len(list(tmp_path.glob("[0-9]_0"))) < 2:
        time.sleep(0.01)
    parent.kill()
    parent.communicate(timeout=10)
    assert gone(tmp_path)


@pytest.mark.parametrize(
    ("what", "attempts", "code"),
    [
        ("sys.exit(1)", 3, 1),  # two restarts, no progress
        ("sys.exit('again' not in sys.argv)", 2, 0),  # another command
        ("sys.exit(2)", 1, 2),  # would be as wrong again
        ("if attempt % 2 and attempt < 6: (folder / str(attempt)).touch()\nsys.exit(attempt < 8)", 9, 0),
    ],
)
def test_restarts_are_counted_without_progress(tmp_path, what, attempts, code):
    parent = start(tmp_path, what, restarts=3 if attempts == 9 else 2)
    parent.communicate(timeout=60)
    assert parent.returncode == code
    assert len(list(tmp_path.glob("0_*"))) == attempts


def test_a_parent_whose_reader_is_gone_ends_with_its_job(tmp_path):
    """As `launch.py --processes=2 2>&1 | head -1` leaves it."""
    parent = start(
        tmp_path, "if me: time.sleep(60)\nprint('error', file=sys.stderr, flush=True)\ntime.sleep(0.5)\nsys.exit(1)"
    )
    parent.stderr.close()
    parent.stdout.close()
    parent.wait(timeout=20)
    assert gone(tmp_path)
