"""Periodic work: what is done at a moment of a run besides stepping. A hook is a function of a Moment."""

import math

import numpy as np

from jaxrec.checkpoint import Checkpoints
from jaxrec.data.pipeline import Batches
from jaxrec.errors import DivergedError
from jaxrec.train import Hook, Moment


def every(steps: int, hook: Hook) -> Hook:
    """Calls `hook` at the first moment at or after each multiple of `steps`, and at the last moment of the run."""

    def fire(moment: Moment) -> None:
        if moment.step // steps > moment.previous // steps or moment.step == moment.steps:
            hook(moment)

    return fire


def evaluate(**splits: Batches) -> Hook:
    """Evaluates the state on each split and adds "<split>/<metric>" to the moment's scalars; arrays are left out."""

    def hook(moment: Moment) -> None:
        for split, batches in splits.items():
            for name, value in moment.evaluate(batches).items():
                if not isinstance(value, np.ndarray):
                    moment.scalars[f"{split}/{name}"] = value

    return hook


def stop_if_diverged(moment: Moment) -> None:
    """Raises DivergedError where a train metric is not finite. Put before `save`, it keeps the last good checkpoint."""
    for name, value in moment.scalars.items():
        if name.startswith("train/") and not math.isfinite(value):
            raise DivergedError(
                f"{name} is {value}: training diverged in steps {moment.previous} to {moment.step}. The checkpoints "
                "before are kept. Lower the learning rate, or clip gradients."
            )


class Speed:
    """A hook that adds up what training took, evaluation left out.

    Args:
      examples: trained on before, by the process that this one goes on from.
      seconds: that this took.
    """

    def __init__(self, examples: float = 0, seconds: float = 0.0):
        self.examples, self.seconds = examples, seconds

    def __call__(self, moment: Moment) -> None:
        """Counts one moment."""
        self.examples += moment.examples
        self.seconds += moment.seconds


def save(checkpoints: Checkpoints, speed: Speed | None = None) -> Hook:
    """Saves the state, with the scalars of this moment by which the best one is chosen, and the time it took so far."""

    def hook(moment: Moment) -> None:
        spent = {"speed/examples": speed.examples, "speed/seconds": speed.seconds} if speed else {}
        checkpoints.save(moment.step, moment.state, {**moment.scalars, **spent})

    return hook
