"""How a process ends: its exit codes, and errors in one line."""

import errno
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from jaxrec.errors import DivergedError, InputError, StoppedError, reason
from jaxrec.machine import signals
from jaxrec.machine.watchdog import TURN

OTHER, BAD_INPUT, DIVERGED = 1, 2, 76  # beside 0, those of `signals.CODES`, and `watchdog.HANG`

OURS = ("jaxrec", "experiments", "configs")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOST = ("Gloo", "NCCL", "coordination service", "CoordinationService")  # who says that another process is gone
NO_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "Unable to allocate", "std::bad_alloc")


def told(error: BaseException) -> tuple[int, str] | None:
    """The exit code and the line of an error that the user can do something about; None of any other."""
    if isinstance(error, StoppedError):
        name = signals.NAMES[error.number]
        return signals.CODES[
            error.number
        ], f"{name}: stopped at step {error.step}. The same command goes on from there."
    if isinstance(error, DivergedError):
        return DIVERGED, str(error)
    if isinstance(error, InputError):
        return BAD_INPUT, str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] not in OURS:
        return BAD_INPUT, (
            f"the Python package {error.name} is missing from {sys.executable}. Run it with .venv/bin/python, which "
            "`make train` makes, or install it; launch.py doctor says more."
        )
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        place = os.path.dirname(os.path.abspath(error.filename)) if error.filename else "."
        free = shutil.disk_usage(place if os.path.isdir(place) else ".").free
        return OTHER, f"{reason(error)}: {free:,} bytes are free. Make room; the same command goes on."
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and error.filename:
        return BAD_INPUT, f"{reason(error)}. Name a folder that can be written."
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        return OTHER, (
            f"out of memory ({reason(error)[:200]}). Lower config.train.batch_size, set config.updates.accumulate to "
            "take a batch in parts, use a smaller model, smaller images (config.data.size) or more devices with "
            "config.train.rule=fsdp; of a command, ask for fewer images."
        )
    if _is_lost(error):
        return OTHER, f"another process of this job has ended, or cannot be reached ({reason(error)[:200]})."
    return None


def give_turn(error: BaseException) -> None:
    """Lets another process of the job end first where the error says that it is gone: its connections close before it
    has ended, and whoever looks after the job takes the first to end for the cause."""
    if _is_lost(error):
        time.sleep(TURN)


def end(main: Callable[[], int]) -> NoReturn:
    """Ends this process with the exit code that `main` returns.

    Without success it ends at once: JAX would wait for the other processes of a job, and they for this one.
    """
    try:
        code = main()
    except SystemExit as error:
        code = error.code or 0
        if not isinstance(code, int):  # text: as Python does
            print(code, file=sys.stderr)
            code = OTHER
    except BaseException as error:
        known = told(error) if isinstance(error, ModuleNotFoundError) else None  # so early that nobody else says it
        if known:
            print(f"launch.py: {known[1]}", file=sys.stderr)
        else:
            traceback.print_exc()
        give_turn(error)
        code = known[0] if known else OTHER
    signals.ignore()
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit()


def _is_lost(error: BaseException) -> bool:
    """Whether an error is that another process of the job is gone."""
    return any(words in str(error) for words in LOST)
