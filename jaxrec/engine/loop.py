"""The trainer's loop: restore, take steps, call the hooks.

With `jaxrec/engine/program.py`, which compiles, it owns time and devices. Neither ever mentions
a model, a loss, an optimizer or a config.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxrec.data.batches import Batches
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.engine.program import Program
from jaxrec.errors import InputError
from jaxrec.tasks.task import State


class Moment(NamedTuple):
    """What a hook sees, every `log_every` steps and at the last. The hooks of one moment run in order."""

    step: int  # steps taken
    steps: int  # steps in the run
    previous: int  # steps taken at the moment before
    state: State
    examples: int  # that the steps since the moment before trained on
    seconds: float  # that those steps took, hooks left out
    evaluate: Callable[[Batches], dict[str, float | np.ndarray]]
    scalars: dict[str, float]  # "train/loss", ...: means since the moment before; hooks add what they find
    warnings: list[str]  # what a hook thinks is going wrong, in plain language, for a later hook to show


Hook = Callable[[Moment], bool | None]  # True ends the run after this moment


def fit(
    program: Program,
    *,
    steps: int,
    hooks: Sequence[Hook] = (),
    checkpoints: Checkpoints | None = None,
) -> State:
    """Runs a program up to `steps` steps, or until a hook asks to stop, and returns the last state.

    Goes on from the newest checkpoint where there is one. The host waits for the devices once every `log_every`
    steps; between, nothing moves from or to them but the batch.

    Args:
      program: from `compile_task`.
      steps: to have taken at the end, those before a restored checkpoint included.
      hooks: called in order every `log_every` steps and after the last.
      checkpoints: where to look for the state to go on from; saving is a hook's work.

    Raises:
      InputError: the newest checkpoint is past `steps`, damaged, or of another model.
    """
    step = (checkpoints.latest() if checkpoints else None) or 0
    if step > steps:
        raise InputError(f"steps = {steps}: the newest checkpoint has taken {step} steps already. Ask for more.")
    state = checkpoints.restore(program.template, step) if step else program.init()
    with jax.transfer_guard("disallow"):
        while step < steps:
            previous, began = step, time.perf_counter()
            step = min(steps, previous - previous % program.log_every + program.log_every)
            state, means = program.train(state, previous, step)
            moment = Moment(
                step=step,
                steps=steps,
                previous=previous,
                state=state,
                examples=(step - previous) * program.batch_size,
                seconds=time.perf_counter() - began,
                evaluate=functools.partial(program.evaluate, state),
                scalars={f"train/{name}": value for name, value in means.items()},
                warnings=[],
            )
            stop = [hook(moment) for hook in hooks]
            if any(stop):
                break
    return state
