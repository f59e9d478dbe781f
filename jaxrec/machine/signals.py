"""What Ctrl-C and SIGTERM do to a process: end it at once, or, where something is to be saved, ask it to end.

Python raises KeyboardInterrupt in whatever code runs just then, a callback of the runtime too, which swallows it, and
not before a call into C returns, so that compiling cannot be interrupted. Here nothing is raised: Python's own handler
wakes a thread, and that ends the process, or notes the signal inside of `deferred`. The thread runs as soon as whatever
runs gives Python's lock back, as XLA's compiler does.
"""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Iterator

CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}  # what a process that they end exits with
NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
TICK = 0.5  # seconds: to which time that a process was stopped (Ctrl-Z) is known


class _Received:
    """What this process has received; signals are a process's, so there is one."""

    lock = threading.Lock()
    deferring = 0  # how many blocks want to end by themselves
    asked: signal.Signals | None = None  # the first signal that came in such a block
    stopped = 0.0  # seconds that the process was stopped


def install() -> None:
    """From now on Ctrl-C and SIGTERM end this process, in whatever code, with their exit code and a line on stderr.

    To be called in the main thread.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for number in (*CODES, signal.SIGCONT):
        signal.signal(number, lambda *_: None)  # the byte in the pipe is all that is wanted of it
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(reader,), daemon=True, name="signals").start()


def ignore() -> None:
    """From now on they do nothing: the process is about to end, with a code of its own."""
    for number in CODES:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """A block that ends by itself when `asked` names a signal."""
    with _Received.lock:
        _Received.deferring += 1
    try:
        yield
    finally:
        with _Received.lock:
            _Received.deferring -= 1


def asked() -> signal.Signals | None:
    """The signal that came in a `deferred` block, the first where there were several."""
    return _Received.asked


def is_asked() -> bool:
    """Whether a signal came in such a block."""
    return _Received.asked is not None


def clock() -> float:
    """Seconds, to be subtracted from each other, without those in which the process was stopped."""
    return time.perf_counter() - _Received.stopped


def _listen(reader: int) -> None:
    """Takes signals as they come, as bytes."""
    late = 0.0
    while True:
        began = time.perf_counter()
        ready, _, _ = select.select([reader], [], [], TICK)
        # A process that goes on after a stop sees that the time is over first, and the signal a moment later.
        before, late = late, time.perf_counter() - began
        for number in os.read(reader, 64) if ready else b"":
            if number == signal.SIGCONT:
                _Received.stopped += max(before, late)
            if number in CODES:
                with _Received.lock:
                    waits = _Received.deferring > 0
                    _Received.asked = _Received.asked or (signal.Signals(number) if waits else None)
                if not waits:
                    with contextlib.suppress(OSError):  # nobody reads it any more
                        os.write(2, f"launch.py: {NAMES[number]}. The same command goes on, or begins anew.\n".encode())
                    os._exit(CODES[number])  # sys.exit would end this thread alone
