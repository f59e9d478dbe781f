"""A run's folder: one owner at a time, one config for ever, and a note of the software it ran on."""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from jaxrec.errors import InputError, reason
from jaxrec.trees import differences

PACKAGES = ("jaxrec", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")
HELD = ("checkpoints", "interrupted")  # what holds the states of a run, in its folder
REMEDY = "The file is damaged: put it back as it was, take it away, or name another run."


@contextlib.contextmanager
def owned(
    workdir: pathlib.Path,
    settings: Mapping[str, Any],
    *,
    free: Collection[str] = (),
    completed: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
    fresh: bool = False,
) -> Iterator[list[str]]:
    """Makes a folder this process's own for a run, writes config.json into it, and yields what changed of it.

    Args:
      workdir: made if it is not there, for the user alone.
      settings: all that the run follows from, plain values.
      free: dotted keys that may change when a run goes on.
      completed: adds what an older version of the code left out of the settings that are stored there.
      fresh: move what is there aside first, whatever it is; nothing is deleted.

    Raises:
      InputError: the folder is a file, cannot be written or has a name that orbax takes for a pattern, another process
        owns it, or it holds a run of other settings, or a config.json that cannot be read.
    """
    if set("[]*?") & set(str(workdir)):
        raise InputError(f"--workdir={workdir}: a name with [, ], * or ? cannot be read back. Name another folder.")
    try:
        if fresh and workdir.exists():
            with _locked(workdir):
                workdir.rename(workdir.with_name(f"{workdir.name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"))
        workdir.mkdir(mode=0o700, parents=True, exist_ok=True)  # what a run learns from may not be everybody's
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"--workdir={workdir}: cannot make this folder ({error}). Name another.") from None
    with _locked(workdir):
        wanted, changed = _as_stored(settings), {}
        file = workdir / "config.json"
        if any(list(workdir.glob(f"{held}/[0-9]*")) for held in HELD):  # else nothing is lost
            if not file.exists():
                raise InputError(
                    f"--workdir={workdir} holds checkpoints and no config.json, so nobody knows of what run. Put that "
                    "back, name another folder, or move it aside with --fresh."
                )
            found = _as_stored(completed(read_json(file)))
            changed = {key: f"{key}: {old!r} -> {new!r}" for key, old, new in differences(found, wanted, "config")}
            if others := [line for key, line in changed.items() if key not in free]:
                raise InputError(
                    f"--workdir={workdir} holds a run of another config ({'; '.join(others)}). Name another "
                    f"folder, repeat that run with --config={file}, or move it aside with --fresh."
                )
        write_json(file, wanted)
        yield list(changed.values())


def write_environment(workdir: pathlib.Path, devices: str, **more: Any) -> None:
    """Adds to environment.json, for each process that works on the run: versions, git commit, devices, and more."""
    command, commit = ["git", "describe", "--always", "--dirty", "--abbrev=40"], ""
    with contextlib.suppress(OSError):  # a machine without git
        here = pathlib.Path(__file__).parent
        commit = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False).stdout.strip()
    environment = {
        "command": sys.argv,
        "devices": devices,
        "git": commit or None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": versions(),
        **more,
    }
    file = workdir / "environment.json"
    write_json(file, [*(read_json(file, list) if file.exists() else []), environment])


def versions() -> dict[str, str]:
    """The packages whose version may make a difference to what a run finds."""
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def read_json(file: pathlib.Path, kind: type = dict, keys: Mapping[str, type] = {}) -> Any:
    """What a JSON file of a run holds.

    Args:
      file: which has to be there.
      kind: what it holds as a whole, dict or list.
      keys: what a dict has at least, and what these values are.

    Raises:
      InputError: it cannot be read, is no JSON, or holds something else.
    """
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read ({reason(error)}). {REMEDY}") from None
    if not isinstance(value, kind):
        raise InputError(f"{file}: holds {type(value).__name__}, needs {kind.__name__}. {REMEDY}")
    for key, wanted in keys.items():
        if not isinstance(value.get(key), wanted):
            raise InputError(f"{file}: {key!r} is no {wanted.__name__}. {REMEDY}")
    return value


def why_not_written(file: pathlib.Path) -> str:
    """Why a file cannot be written, or "" where it can; it is not touched, and none is left."""
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent):
            return "that is a folder" if file.is_dir() else ""
    except OSError as error:
        return error.strerror


def check_writable(file: pathlib.Path, flag: str) -> None:
    """Raises InputError, beginning with the flag that names it, for a file that cannot be written."""
    if why := why_not_written(file):
        raise InputError(f"{flag}={file}: cannot be written ({why}). Name another file, in a folder that is there.")


def write_json(file: pathlib.Path, value: Any) -> None:
    """Writes JSON that is there whole or not at all."""
    partial = file.with_suffix(".partial")
    with naming(file):
        partial.write_text(json.dumps(value, indent=2) + "\n")
        partial.replace(file)


@contextlib.contextmanager
def naming(file: pathlib.Path) -> Iterator[None]:
    """Names the file in an error of the disk: a write that finds it full does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error


@contextlib.contextmanager
def _locked(workdir: pathlib.Path) -> Iterator[None]:
    """Holds the folder's lock. The system lets go of it when the process ends, however it ends."""
    try:
        lock = (workdir / "lock").open("a+")
    except OSError as error:
        raise InputError(f"--workdir={workdir}: cannot write here ({error.strerror}). Name another folder.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InputError(
                f"--workdir={workdir} belongs to a run that is still going ({lock.read().strip()}). Wait for it, stop "
                "it, or name another folder."
            ) from None
        if not os.path.samestat(os.fstat(lock.fileno()), (workdir / "lock").stat()):
            raise InputError(f"--workdir={workdir} was moved aside by another process just now. Try again.")
        owner = f"process {os.getpid()} on {platform.node()} since {datetime.datetime.now():%Y-%m-%d %H:%M:%S}\n"
        with naming(workdir / "lock"):
            lock.truncate(0)
            os.write(lock.fileno(), owner.encode())
        yield


def _as_stored(settings: Mapping[str, Any]) -> Any:
    """Settings as they come back from JSON."""
    return json.loads(json.dumps(settings))
