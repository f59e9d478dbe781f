"""Runs of several processes: `launch.py` as the parent of processes of its own, or as one process of a job."""

import functools
import pathlib
import sys
from typing import Any

from jaxrec.errors import InputError
from jaxrec.machine import supervisor, watchdog

LAUNCHER = pathlib.Path(__file__).parents[1] / "launch.py"
HANG_SECONDS = 600.0  # by default, with several processes


def check_flags(options: Any) -> None:
    """Raises InputError for flags about processes that do not fit each other."""
    given = [f"--{name}" for name in ("coordinator", "process_id") if options[name].value is not None]
    if options.cluster and (options.processes or given):
        raise InputError("--cluster finds processes, coordinator and process_id out. Leave these out, or --cluster.")
    if given and not (len(given) == 2 and options.processes):
        raise InputError(f"{given[0]} is one of three: --coordinator=HOST:PORT --processes=N --process_id=K.")
    if options.restarts and options.cluster:
        raise InputError("--restarts is for processes that launch.py has started. A cluster starts its own anew.")


def is_parent(options: Any) -> bool:
    """Whether this process only starts others."""
    return options.process_id is None and bool(options.processes or options.restarts)


def supervise(argv: list[str], options: Any, workdir: pathlib.Path | None) -> int:
    """Starts the processes of a run on this machine, which run this command line, and returns the exit code."""
    command = [sys.executable, str(LAUNCHER), *argv]
    return supervisor.supervise(
        command,
        processes=options.processes or 1,
        restarts=options.restarts or 0,
        again=[*command, "--nofresh"],  # what the first attempt has learned is not moved aside
        progress=functools.partial(newest_step, workdir),
    )


def newest_step(workdir: pathlib.Path) -> int:
    """The newest step that lies among a run's checkpoints, whatever it is worth; 0 where there is none."""
    return max((int(folder.name) for folder in workdir.glob("*/[0-9]*") if folder.name.isdigit()), default=0)


def join(options: Any) -> None:
    """Makes this process one of a job, if it is, and watches over it."""
    several = options.cluster or (options.processes or 1) > 1
    is_last = watchdog.alone
    if several:
        from jaxrec.machine import cluster  # imports JAX

        seconds = options.join_seconds
        if options.cluster:
            job = cluster.detected(seconds)
        else:
            # Where there are accelerators, each process of this machine takes one, as in a cluster.
            job = cluster.Job(options.coordinator, options.processes, options.process_id, [options.process_id])
        cluster.join(job, seconds=seconds)
        is_last = cluster.is_furthest_behind
    limit = options.hang_seconds if options.hang_seconds is not None else HANG_SECONDS * several
    if limit:
        watchdog.watch(limit, is_last)
