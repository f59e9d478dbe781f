"""Ctrl-C and SIGTERM, in processes that import nothing heavy."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest

from jaxrec.errors import DivergedError, InputError, StoppedError
from jaxrec.machine.exits import told

ROOT = pathlib.Path(__file__).parents[2]

START = "import os, signal, time; from jaxrec.machine import signals; signals.install()\n"
READY = "print('ready', flush=True)\n"


def answer(program: str, *numbers: int) -> tuple[int, str, str]:
    """Sends a process signals once it is ready, a tenth of a second apart: its exit code, stdout and stderr."""
    program = program if READY in program else READY + program
    process = subprocess.Popen(
        [sys.executable, "-c", START + program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.1)
    shown, errors = process.communicate(timeout=20)
    return process.returncode, shown, errors


# Where an exception would be swallowed, or come late.
PLACES = {
    "asleep": "time.sleep(30)",
    "a bare except": "while True:\n  try: time.sleep(30)\n  except BaseException: pass",
    "a finaliser": "class A:\n  def __del__(self): time.sleep(30)\ndel A().__dict__",
    "busy": "while True: pass",
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_process_ends_at_once_wherever_it_is(place):
    assert answer(place, signal.SIGTERM) == (
        75,
        "",
        "launch.py: terminated. The same command goes on, or begins anew.\n",
    )


def test_each_signal_has_its_code():
    assert answer("time.sleep(30)", signal.SIGINT)[0] == 130


def test_a_process_ends_without_a_reader_of_its_last_line():
    program = "reader, writer = os.pipe()\nos.close(reader)\nos.dup2(writer, 2)\n" + READY + "time.sleep(30)"
    assert answer(program, signal.SIGTERM)[0] == 75


WAITING = f"""
with signals.deferred():
    {READY}    until = time.time() + 0.6
    while time.time() < until: time.sleep(0.01)
    print(signals.asked().name, flush=True)
time.sleep({{after}})
"""


def test_where_something_is_to_be_saved_the_first_signal_is_a_wish_and_the_second_changes_nothing():
    code, shown, errors = answer(WAITING.format(after=0), signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
    assert (code, shown, errors) == (0, "SIGTERM\n", "")


def test_after_it_a_signal_ends_the_process_again():
    assert answer(WAITING.format(after=30), signal.SIGINT, *[0] * 7, signal.SIGTERM)[:2] == (75, "SIGINT\n")


def test_a_process_that_is_about_to_end_has_its_own_code():
    assert answer(f"signals.ignore(); {READY}time.sleep(0.3); os._exit(5)", signal.SIGTERM, signal.SIGINT)[0] == 5


def test_time_in_which_a_process_was_stopped_is_not_its_time():
    program = f"a, b = signals.clock(), time.perf_counter()\n{READY}"
    program += "while time.perf_counter() < b + 2: time.sleep(0.01)\n"
    program += "time.sleep(0.5)\n"  # the thread that hears of it may come later than this one
    program += "print(signals.clock() - a, time.perf_counter() - b)"
    *_, shown, errors = answer(program, signal.SIGSTOP, *[0] * 14, signal.SIGCONT)
    own, whole = map(float, shown.split())
    assert errors == ""
    assert whole - own == pytest.approx(1.5, abs=0.6)  # known to half a second


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("what was wrong"), 2, "what was wrong"),
        (DivergedError("it diverged", 3), 76, "it diverged"),
        (StoppedError(signal.SIGTERM, 7), 75, "terminated: stopped at step 7. The same command goes on from there."),
        (StoppedError(signal.SIGINT, 7), 130, "interrupted: stopped at step 7. The same command goes on from there."),
        (OSError(28, "No space left on device", "/tmp/x"), 1, "[Errno 28] No space left on device: '/tmp/x': "),
        (PermissionError(13, "Permission denied", "/x"), 2, "[Errno 13] Permission denied: '/x'. Name a folder"),
        (ModuleNotFoundError("No module", name="absl.flags"), 2, "the Python package absl.flags is missing from "),
        (MemoryError("Unable to allocate 9 TiB"), 1, "out of memory (Unable to allocate 9 TiB). Lower config.train."),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), 1, "out of memory (RESOURCE_EXHAUSTED: Out of memory). "),
    ],
)
def test_errors_have_a_code_and_a_line(error, code, line):
    found = told(error)
    assert found[0] == code
    assert found[1].startswith(line)
    assert "\n" not in found[1]


def test_an_error_of_ours_is_told_by_its_traceback():
    assert told(ValueError("a fault")) is None
    assert told(OSError(2, "No such file", "/x")) is None


@pytest.mark.parametrize(("words", "code", "said"), [("", 0, ""), ("'out of luck'", 1, "out of luck\n"), ("3", 3, "")])
def test_sys_exit_means_what_it_does_elsewhere(words, code, said):
    program = f"import sys; from jaxrec.machine import exits; exits.end(lambda: sys.exit({words}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, said)


def test_output_without_a_reader_goes_nowhere():
    program = (
        "import sys; from jaxrec.machine.terminal import Lasting; sys.stdout = Lasting(sys.stdout)\n"
        "for i in range(20000): print('line', i)\n"
        "print('done', file=sys.stderr)"
    )
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$0" -c "$1" | head -1', sys.executable, program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "line 0\n", "done\n")
