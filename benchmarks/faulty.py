"""The classifier's experiment with a fault in it, once, in one process, at one step: for `process_faults.py`."""

import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable
from typing import Literal

import jax

from experiments import classify
from experiments.experiment import Experiment, Train
from experiments.settings.specs import DataSpec, LossSpec, ModelSpec, OptimizerSpec
from jaxrec.engine.loop import Moment
from jaxrec.types import Count, Seed

FOREVER = 10**6  # seconds


def stuck_in_data() -> None:
    time.sleep(FOREVER)


def stuck_in_step() -> None:
    time.sleep(FOREVER)


def fail() -> None:
    raise RuntimeError("This process has failed on purpose.")


FAULTS: dict[str, Callable[[], None]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSTOP": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "exception": fail,
    "exit": lambda: sys.exit(3),
    "data": stuck_in_data,
    "step": stuck_in_step,
}


def build(
    *,
    train: Train,
    data: DataSpec,
    model: ModelSpec,
    loss: LossSpec,
    optimizer: OptimizerSpec,
    seed: Seed = 0,
    fault: Literal["SIGKILL", "SIGSTOP", "exception", "exit", "data", "step", "none"] = "none",
    process: Seed = 1,
    step: Count = 25,
    marker: str = "",
) -> Experiment:
    """A classifier that is struck by a fault.

    Args:
      train: as of `experiments.classify.build`.
      data: likewise.
      model: likewise.
      loss: likewise.
      optimizer: likewise.
      seed: likewise.
      fault: what happens.
      process: to which one.
      step: at which.
      marker: a file that says that it has happened.
    """
    experiment = classify.build(train=train, data=data, model=model, loss=loss, optimizer=optimizer, seed=seed)

    def strike(at: int) -> None:
        if fault != "none" and at >= step and jax.process_index() == process and not pathlib.Path(marker).exists():
            pathlib.Path(marker).touch()
            FAULTS[fault]()

    def host(index: int) -> dict:
        if fault != "step":
            strike(index)
        return experiment.train.host(index)

    def watch(workdir: pathlib.Path) -> list:
        def hook(moment: Moment) -> None:
            if fault == "step":
                strike(moment.step)

        return [hook, *experiment.watch(workdir)]

    return experiment._replace(train=experiment.train._replace(host=host), watch=watch)
