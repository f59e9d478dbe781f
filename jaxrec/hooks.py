"""Periodic work: what is done at a moment of a run besides stepping. A hook is a function of a Moment."""

from jaxrec.checkpoint import Checkpoints
from jaxrec.data.pipeline import Batches
from jaxrec.train import Hook, Moment


def every(steps: int, hook: Hook) -> Hook:
    """Calls `hook` at the first moment at or after each multiple of `steps`, and at the last moment of the run."""

    def fire(moment: Moment) -> None:
        if moment.step // steps > moment.previous // steps or moment.step == moment.steps:
            hook(moment)

    return fire


def evaluate(**splits: Batches) -> Hook:
    """Evaluates the state on each split and adds "<split>/<metric>" to the moment's scalars."""

    def hook(moment: Moment) -> None:
        for split, batches in splits.items():
            moment.scalars.update({f"{split}/{name}": value for name, value in moment.evaluate(batches).items()})

    return hook


def save(checkpoints: Checkpoints) -> Hook:
    """Saves the state, with the scalars of this moment by which the best one is chosen."""

    def hook(moment: Moment) -> None:
        checkpoints.save(moment.step, moment.state, moment.scalars)

    return hook
