"""A process that makes no progress says where it hangs, and ends: no timeout of JAX's is for one that is alive."""

import faulthandler
import os
import signal
import sys
import threading
import time

HANG = 77  # exit code
GRACE = 3  # seconds after which the process is ended although a thread keeps Python's lock


class _Progress:
    """Of this process; there is one."""

    beats = 0


def beat() -> None:
    """Says that the process goes on. Called at each call of the devices, at each batch and at each save."""
    _Progress.beats += 1


def watch(seconds: float) -> None:
    """From the first beat on, ends this process with exit code 77 where no beat comes for so long.

    What all threads are doing is written to standard error before; SIGUSR1 shows it at any time. Time in which the
    process is stopped does not count. Compiling does: seconds are to be more than the longest of it takes. If a thread
    keeps Python's lock, `faulthandler` ends the process instead, three seconds later and with exit code 1.
    """
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    threading.Thread(target=_look, args=(seconds,), daemon=True, name="watchdog").start()


def _look(seconds: float) -> None:
    """Looks at the beats until none has come."""
    tick = min(seconds / 10, 1.0)
    seen, waited = 0, 0.0
    while waited < seconds:
        faulthandler.dump_traceback_later(seconds + GRACE, exit=True)
        time.sleep(tick)
        waited = waited + tick if seen and seen == _Progress.beats else 0.0
        seen = _Progress.beats
    faulthandler.cancel_dump_traceback_later()
    faulthandler.dump_traceback(all_threads=True)
    print(
        f"launch.py: no progress for {seconds:g} seconds, see above where each thread is.", file=sys.stderr, flush=True
    )
    os._exit(HANG)
