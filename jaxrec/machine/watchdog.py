"""A process that makes no progress says where it hangs, and ends: no timeout of JAX's is for one that is alive."""

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

HANG = 77  # exit code
GRACE = 3  # seconds after which the process is ended although a thread keeps Python's lock
TURN = 1.0  # seconds by which one that only waits for another ends later


class _Progress:
    """Of this process; there is one."""

    beats = 0


def beat() -> None:
    """Says that the process goes on. Called at each call of the devices, at each batch and at each save."""
    _Progress.beats += 1


def alone(beats: int) -> bool:
    """What is so of a process that no others wait for."""
    return True


def watch(seconds: float, is_last: Callable[[int], bool] = alone) -> None:
    """From the first beat on, ends this process with exit code 77 where no beat comes for so long.

    What all threads are doing is written to standard error before; SIGUSR1 shows it at any time. Compiling counts:
    seconds are to be more than the longest of it takes. If a thread keeps Python's lock, `faulthandler` ends the
    process instead, a few seconds later and with exit code 1. So it does with one that goes on after it was stopped for
    longer than that (SIGSTOP, Ctrl-Z); a shorter stop does not count.

    Args:
      seconds: how long.
      is_last: asked with the number of beats whether this process is the one that others wait for, if any is: it ends
        before these, so that it is the first to fail for whoever looks after them.
    """
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    threading.Thread(target=_look, args=(seconds, is_last), daemon=True, name="watchdog").start()


def _look(seconds: float, is_last: Callable[[int], bool]) -> None:
    """Looks at the beats until none has come."""
    tick = min(seconds / 10, 1.0)
    seen, waited = 0, 0.0
    while waited < seconds:
        faulthandler.dump_traceback_later(seconds + GRACE, exit=True)
        time.sleep(tick)
        waited = waited + tick if seen and seen == _Progress.beats else 0.0
        seen = _Progress.beats
    faulthandler.dump_traceback_later(2 * GRACE, exit=True)  # whatever `is_last` waits for
    faulthandler.dump_traceback(all_threads=True)
    last = is_last(seen)
    which = "above is where each thread is" if last else "it waits for another process, which is further behind"
    print(f"launch.py: no progress for {seconds:g} seconds: {which}.", file=sys.stderr, flush=True)
    time.sleep(0 if last else TURN)
    os._exit(HANG)
