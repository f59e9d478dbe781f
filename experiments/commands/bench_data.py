"""Measures what feeds a config's network, stage by stage, without the network."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from rich.table import Table

from experiments.experiment import prepare
from jaxrec.data.batches import Batches
from jaxrec.data.streaming import AHEAD, InOrder, parallel_calls
from jaxrec.output.console import plain_console
from jaxrec.sharding import Parallel
from jaxrec.types import Positive


def bench_data(config: Mapping[str, Any], *, seconds: Positive = 5.0) -> int:
    """Prints how many images a second each stage of the training batches manages, with those before it.

    The plan says which examples a step holds; reading brings their bytes from the disk; decoding makes images of them,
    in parallel; the devices gather what lies there, augment and scale. All but the last run on the host, ahead of the
    step: where the slowest of them is faster than the network, the devices do not wait.

    Args:
      config: of a run, checked and complete.
      seconds: how long each stage is measured.

    Returns:
      The exit code.

    Raises:
      InputError: the config does not fit the data or the devices.

    Example:
      python launch.py bench_data --config=configs/digits_cnn.py --seconds=2
    """
    experiment, train, parallel = prepare(config)
    table = Table("stage", "images/s", "ms a batch", title_justify="left")
    table.title = f"batches of {train.batch_size:,} training images, {parallel_calls()} at a time"
    for stage, work in stages(experiment.train, parallel).items():
        taken = _seconds_each(work, seconds)
        table.add_row(stage, f"{train.batch_size / taken:,.0f}", f"{1000 * taken:,.2f}")
    plain_console().print(table)
    return 0


def stages(batches: Batches, parallel: Parallel) -> dict[str, Callable[[int], Any]]:
    """Name of a stage -> what it does for a step."""
    fetch, resident = jax.jit(batches.fetch), parallel.everywhere(batches.resident)

    def on_devices(step: int) -> None:
        jax.block_until_ready(fetch(resident, parallel.split(batches.host(step))))

    if not isinstance(batches.host, InOrder):
        return {"plan": batches.host, "all, on the devices": on_devices}
    host = batches.host

    def read(step: int) -> list[bytes]:
        return [stream.pictures.read(index) for stream in host.streams.values() for index in host.plan(step)["id"]]

    return {"plan": host.plan, "read": read, "decode": host, "all, on the devices": on_devices}


def _seconds_each(work: Callable[[int], Any], seconds: float) -> float:
    """How long a stage takes for one batch."""
    steps: Iterator[int] = itertools.count()
    for _ in range(2 + AHEAD):
        work(next(steps))  # the first compiles, and what was decoded meanwhile is no measure
    began, count = time.perf_counter(), 0
    while (taken := time.perf_counter() - began) < seconds or not count:
        work(next(steps))
        count += 1
    return taken / count
