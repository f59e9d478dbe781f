"""The errors that are said in one line. Imports nothing, so a config can be refused before JAX starts."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from the user: one line that says what was wrong, what is allowed and what to do.

    `launch.py` prints the line and exits with code 2; in a notebook it is an ordinary ValueError.
    """


class DivergedError(RuntimeError):
    """A metric or the state became NaN or infinite. `launch.py` prints the line and exits with code 76.

    Args:
      message: the line.
      step: at which that was seen, the number of steps that were taken.
    """

    def __init__(self, message: str, step: int = 0):
        super().__init__(message)
        self.step = step


class StoppedError(Exception):
    """A signal asked a run to stop, and what it had learned is saved. `launch.py` exits with the signal's code.

    Args:
      number: of the signal.
      step: that is saved.
    """

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped at step {step}")
        self.number, self.step = number, step


def did_you_mean(name: object, allowed: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the nearest allowed name, or "" when none is near."""
    near = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


def described(value: object) -> str:
    """Returns what a value is, for a message: an array as "float32[8, 1]", anything else by its type."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return f"a {type(value).__name__}" if shape is None or dtype is None else f"{dtype}{list(shape)}"


def reason(error: Exception) -> str:
    """What an error says, in one line; of one that says nothing, its kind."""
    return " ".join(str(error).split()) or type(error).__name__


def check_is(value: object, kind: type, what: str) -> None:
    """Raises InputError unless a value is of a kind; `what` says which is wanted: "compile_task takes a task"."""
    if not isinstance(value, kind):
        got = f"the class {value.__name__} itself" if isinstance(value, type) else described(value)
        raise InputError(f"{what}; this is {got}.")
