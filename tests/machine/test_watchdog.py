"""A process that hangs says where, and ends."""

import pathlib
import subprocess
import sys
import time
import timeit

import pytest

from jaxrec.machine import watchdog

ROOT = pathlib.Path(__file__).parents[2]

HANGING = """
import ctypes, os, signal, sys, threading, time
from jaxrec.machine import watchdog
watchdog.watch(float(sys.argv[1]))
def stuck_here(): time.sleep(60)
def stuck_with_the_lock(): ctypes.PyDLL(None).sleep(60)
{what}
"""


def run(what: str, seconds: float = 0.4) -> tuple[subprocess.CompletedProcess, float]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGING.format(what=what), str(seconds)], cwd=ROOT, capture_output=True, text=True
    )
    return done, time.monotonic() - began


def test_a_process_that_hangs_shows_its_stacks_and_ends_with_77():
    done, seconds = run("threading.Thread(target=stuck_here).start()\nwatchdog.beat()\nthreading.Event().wait()")
    assert done.returncode == 77
    assert "stuck_here" in done.stderr, "the stack of a thread is missing"
    assert "in wait" in done.stderr, "the stack of the main thread is missing"
    assert "no progress for 0.4 seconds" in done.stderr.splitlines()[-1]
    assert seconds < 5


def test_one_that_beats_goes_on_and_before_the_first_beat_nothing_is_due():
    beating = "time.sleep(0.5)\nfor _ in range(6):\n    watchdog.beat(); time.sleep(0.1)"
    done, _ = run(beating)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_one_that_keeps_pythons_lock_ends_all_the_same():
    done, seconds = run("watchdog.beat()\ntime.sleep(0.1)\nstuck_with_the_lock()")
    assert done.returncode == 1
    assert "stuck_with_the_lock" in done.stderr
    assert seconds < 10


@pytest.mark.slow
def test_time_in_which_it_is_stopped_does_not_count():
    child = subprocess.Popen(
        [sys.executable, "-c", HANGING.format(what="watchdog.beat(); time.sleep(0.3)"), "1"], cwd=ROOT
    )
    time.sleep(0.2)
    child.send_signal(19)
    time.sleep(2)
    child.send_signal(18)
    assert child.wait(timeout=10) == 0


def test_a_beat_costs_next_to_nothing():
    assert timeit.timeit(watchdog.beat, number=10_000) / 10_000 < 5e-6  # beside a step of a millisecond
