"""The parent of a job's processes on one machine: they live and die together, and it says who was the first to fail.

Imports no JAX: it only starts, waits and ends.
"""

import collections
import ctypes
import math
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from jaxrec.machine import signals
from jaxrec.machine.watchdog import HANG

TICK = 1.0  # seconds between two looks at whether a process is stopped
STOPPED_SECONDS = 5.0  # for which a process may be stopped; a whole job that is stopped goes on together
TAIL = 200  # lines of standard error that are kept of each process
FINAL = (2, 76, 130)  # exit codes after which another try would end in the same way, or is not wanted
ORDERLY = (75, *FINAL)  # with which all end by themselves: what they save is saved
ORDERLY_SECONDS = 10.0  # that the others are given for it


class Failure(NamedTuple):
    """How the first process that failed has ended."""

    process_id: int
    how: str  # "exit code 3", "SIGKILL", "stopped by SIGSTOP"
    code: int  # of the job


def supervise(
    command: Sequence[str],
    *,
    processes: int,
    restarts: int = 0,
    again: Sequence[str] | None = None,
    progress: Callable[[], int] = lambda: 0,
) -> int:
    """Runs copies of a command as one job, which meet at a port of 127.0.0.1, and returns the job's exit code.

    As soon as one fails, is killed or stopped, the others are killed. SIGTERM and SIGINT are handed on to all, and how
    they end is up to them. If this process is killed, so are they. What process 0 says is seen as it comes; what the
    others say, where they are the first to fail.

    Args:
      command: gets `--processes`, `--process_id` and `--coordinator` added.
      processes: how many copies.
      restarts: how many times to start all anew after a failure; those after an attempt that made progress are free.
      again: the command to start anew with; `command` by default.
      progress: a number that grows with what would be kept, such as the newest checkpoint's step.
    """
    left, handed_on = restarts, []
    with _handing_on(handed_on) as children, signals.deferred():
        while True:
            before = progress()
            failure = _attempt(command, processes, children, handed_on)
            if failure is None:
                return 0
            left = restarts if progress() > before else left - 1
            if failure.code in FINAL or handed_on or not restarts or left < 0:
                return failure.code
            print(f"launch.py: starting anew from step {progress()}.", file=sys.stderr)
            command = again or command


def _attempt(
    command: Sequence[str], processes: int, children: list[subprocess.Popen], handed_on: Sequence[int]
) -> Failure | None:
    """Runs the job once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    for process_id in range(processes):
        own = (f"--processes={processes}", f"--process_id={process_id}", f"--coordinator={coordinator}")
        children.append(_start([*command, *own], seen=process_id == 0))
    for child in children:
        for number in handed_on:  # to those who were not there yet when it came
            child.send_signal(number)
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    tails = [collections.deque(maxlen=TAIL) for _ in children]
    listeners = [
        threading.Thread(target=_listen, args=(process_id, child, tails[process_id]), daemon=True)
        for process_id, child in enumerate(children)
    ]
    waiters = [
        threading.Thread(target=_wait, args=(process_id, child, ended)) for process_id, child in enumerate(children)
    ]
    for thread in (*listeners, *waiters):
        thread.start()
    failure = _first_failure(children, ended)
    if failure and failure.code == HANG:
        _show_stacks(children)
    for child in children:
        child.kill()  # does nothing to one that has ended
    for thread in waiters:
        thread.join()
    for thread in listeners:
        thread.join(TICK)  # a process that a child has started may hold its standard error open
    children.clear()
    if failure:
        _say(failure, tails)
    return failure


def _start(command: Sequence[str], *, seen: bool) -> subprocess.Popen:
    """Starts one process, which is killed when this one ends, however it ends."""
    parent = os.getpid()

    def die_with_parent() -> None:  # there are no threads when it is called
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    shown = None if seen else subprocess.DEVNULL
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=shown,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=die_with_parent,
    )


def _listen(process_id: int, child: subprocess.Popen, tail: collections.deque) -> None:
    """Keeps what a process says last, and shows what process 0 says."""
    for line in child.stderr:
        tail.append(line)
        if process_id == 0:
            with suppress(OSError):  # nobody reads it any more
                sys.stderr.write(line)
                sys.stderr.flush()


def _wait(process_id: int, child: subprocess.Popen, ended: queue.SimpleQueue) -> None:
    """Tells when a process has ended."""
    child.wait()
    ended.put(process_id)


def _first_failure(children: Sequence[subprocess.Popen], ended: queue.SimpleQueue) -> Failure | None:
    """Waits until all have ended well, or one has not; then, where it ended in order, a while for the others."""
    running, stopped, first, until = set(range(len(children))), {}, None, math.inf
    while running and time.monotonic() < until:
        try:
            process_id = ended.get(timeout=TICK)
        except queue.Empty:
            now = time.monotonic()
            stopped = {each: stopped.get(each, now) for each in running if _is_stopped(children[each])}
            for each, since in stopped.items():
                if now - since >= STOPPED_SECONDS:
                    return first or Failure(each, "stopped by a signal", 1)
            continue
        running.remove(process_id)
        first = first or _failure(process_id, children[process_id].returncode)
        if first:
            until = min(until, time.monotonic() + ORDERLY_SECONDS * (first.code in ORDERLY))
    return first


def _failure(process_id: int, code: int) -> Failure | None:
    """How a process has failed, if it has."""
    if code < 0:  # by SIGTERM or SIGINT, before it could say how it wants to end
        return Failure(process_id, f"killed by {signal.Signals(-code).name}", signals.CODES.get(-code, 1))
    return Failure(process_id, f"exit code {code}", code if code in (*ORDERLY, HANG) else 1) if code else None


def _is_stopped(child: subprocess.Popen) -> bool:
    """Whether a process is stopped (SIGSTOP, Ctrl-Z): it does not end, so that nobody is told."""
    try:
        return bool(os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT))
    except ChildProcessError:  # it has ended
        return False


def _show_stacks(children: Sequence[subprocess.Popen]) -> None:
    """Lets those that are still there say where they are: they wait for the one that hangs, or hang themselves."""
    for child in children:
        child.send_signal(signal.SIGUSR1)
    time.sleep(TICK)


def _say(failure: Failure, tails: Sequence[collections.deque]) -> None:
    """What the first to fail said last, and who it was."""
    if failure.code == HANG:
        for process_id, tail in enumerate(tails):
            if process_id not in (0, failure.process_id):
                print(f"launch.py: process {process_id}:\n{''.join(tail)}", end="", file=sys.stderr)
    said = list(tails[failure.process_id])
    told = list(tails[0])[-len(said) :] == said  # a mistake that all made alike is on the screen already
    if not told:
        print("".join(said), end="", file=sys.stderr)
    if failure.code not in ORDERLY:
        print(
            f"launch.py: process {failure.process_id} of {len(tails)} was the first to fail: {failure.how}. The others "
            "were ended.",
            file=sys.stderr,
        )


@contextmanager
def _handing_on(noted: list[int]) -> Iterator[list[subprocess.Popen]]:
    """Hands SIGTERM and SIGINT on to the children in the list that it yields, and notes that they came."""
    children: list[subprocess.Popen] = []

    def hand_on(number: int, _: object) -> None:
        noted.append(number)
        for child in children:
            child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield children
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
