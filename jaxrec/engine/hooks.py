"""Periodic work: what is done at a moment of a run besides stepping. A hook is a function of a Moment."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import jax
import numpy as np
import optax

from jaxrec.data.batches import Batches
from jaxrec.engine.checkpoint import Checkpoints, score
from jaxrec.engine.loop import UNFINISHED, Hook, Moment
from jaxrec.errors import DivergedError
from jaxrec.machine.signals import clock
from jaxrec.tasks.skipping import Skipping

MUCH = 0.2  # of the time


def every(steps: int, hook: Hook) -> Hook:
    """Calls `hook` at the first moment at or after each multiple of `steps`, and at the last moment of the run."""

    def fire(moment: Moment) -> bool | None:
        due = moment.step // steps > moment.previous // steps or moment.step == moment.steps
        return hook(moment) if due else None

    return fire


def evaluate(**splits: Batches) -> Hook:
    """Evaluates the state on each split and adds "<split>/<metric>" to the moment's scalars; arrays are left out."""

    def hook(moment: Moment) -> None:
        for split, batches in splits.items():
            for name, value in moment.evaluate(batches).items():
                if isinstance(value, float):
                    moment.scalars[f"{split}/{name}"] = value

    return hook


def record_rates(**rates: optax.Schedule | None) -> Hook:
    """Returns a hook that adds "train/<name>", the rate at the latest step that was taken, to the moment's scalars.

    Optimizers count no step that `jaxrec.tasks.skipping` skipped. A rate that is None is left out.
    """

    def hook(moment: Moment) -> None:
        kept = moment.state.opt_state
        skipped = int(kept.skipped) if isinstance(kept, Skipping) else 0
        last = max(moment.step - skipped - 1, 0)
        moment.scalars.update({f"train/{name}": float(rate(last)) for name, rate in rates.items() if rate is not None})

    return hook


def stop_if_diverged(moment: Moment) -> None:
    """Raises DivergedError where a train metric or anything in the state is not finite."""
    numbers = {name: value for name, value in {**moment.scalars, **moment.arrays}.items() if name.startswith("train/")}
    found = [f"{name} is {value}" for name, value in numbers.items() if not np.isfinite(value).all()]
    if found or not moment.finite():
        raise DivergedError(
            f"{[*found, 'The state is not finite'][0]}: training diverged in steps {moment.previous} to {moment.step}. "
            "The checkpoints before are kept. Lower the learning rate, or clip gradients.",
            moment.step,
        )


def stop_if_skipping(at_most: int) -> Hook:
    """Returns a hook that raises DivergedError once `jaxrec.tasks.skipping` has skipped so many steps in a row."""

    def hook(moment: Moment) -> None:
        if moment.scalars["train/skipped_in_a_row"] >= at_most:
            raise DivergedError(
                f"{moment.scalars['train/skipped_in_a_row']:.0f} steps in a row, up to step {moment.step}, would have "
                f"ended in numbers that are not finite and were skipped; the limit is {at_most}. Lower the learning "
                "rate, or clip gradients.",
                moment.step,
            )

    return hook


def unless_skipping(hook: Hook) -> Hook:
    """Leaves `hook` out at a moment whose last step was skipped, before the run's end: perhaps none is taken any more.

    So what is saved of a run that skips on until `stop_if_skipping` ends it is from before.
    """

    def fire(moment: Moment) -> bool | None:
        skips = moment.step < moment.steps and int(moment.state.opt_state.in_a_row) > 0
        return None if skips else hook(moment)

    return fire


class EarlyStopping:
    """A hook that ends a run once the monitored metric has not improved for `patience` evaluations in a row.

    Its count is no state of its own: it follows from what was recorded, so a resumed run stops where the unbroken one
    does (Prechelt, 1998).

    Args:
      monitor: the metric, such as "validation/accuracy"; None never ends a run.
      mode: whether a larger or a smaller value is better. NaN is no improvement.
      patience: evaluations; infinity never ends a run.
      history: the scalars of the moments before, oldest first, of a run that goes on.
    """

    def __init__(
        self,
        monitor: str | None,
        *,
        mode: Literal["max", "min"],
        patience: float,
        history: Iterable[Mapping[str, float | None]] = (),
    ):
        self._monitor, self._mode, self._patience = monitor, mode, patience
        self._best, self._waited = -math.inf, 0
        for scalars in history:
            self._see(scalars)

    @property
    def exhausted(self) -> bool:
        """Whether it is time to stop."""
        return self._waited >= self._patience

    def __call__(self, moment: Moment) -> bool:
        """Looks at one moment; moments without an evaluation do not count."""
        self._see(moment.scalars)
        return self.exhausted

    def _see(self, scalars: Mapping[str, float | None]) -> None:
        if self._monitor not in scalars:
            return
        value = score(scalars[self._monitor], self._mode)
        self._waited = 0 if value > self._best else self._waited + 1
        self._best = max(self._best, value)


class Seldom:
    """A hook that calls another only once so much time has passed, where the monitored metric is best, and at the end.

    What time decides is which states a killed run goes on from, and never which one is best: a run comes out the same.

    Args:
      hook: the other, such as one that saves.
      seconds: since it was called last, or since this one was made.
      monitor: the metric, or None.
      mode: whether a larger or a smaller value of it is better. NaN is never best.
      saved: the scalars of what is saved already, of a run that goes on.
      least: `Program.least`, so that several processes decide alike.
    """

    def __init__(
        self,
        hook: Hook,
        *,
        seconds: float,
        monitor: str | None,
        mode: Literal["max", "min"],
        saved: Iterable[Mapping[str, float | None]] = (),
        least: Callable[[int], int] = int,
    ):
        self._hook, self._seconds, self._monitor, self._mode, self._least = hook, seconds, monitor, mode, least
        self._best = max((self._score(scalars) for scalars in saved), default=-math.inf)
        self._called = clock()

    def __call__(self, moment: Moment) -> bool | None:
        """Calls the hook, or does not."""
        value, best = self._score(moment.scalars), self._best
        self._best = max(best, value)
        early = clock() - self._called < self._seconds
        if moment.step < moment.steps and not best <= value > -math.inf and self._least(early):
            return None
        self._called = clock()
        return self._hook(moment)

    def _score(self, scalars: Mapping[str, float | None]) -> float:
        return score(scalars.get(self._monitor), self._mode)


class Speed:
    """A hook that adds up what training took, evaluation left out, and warns once if much of it was waiting for data.

    Args:
      spent: what the process that this one goes on from has noted in a checkpoint, `Speed.spent`.
    """

    def __init__(self, spent: Mapping[str, float] = {}):
        self.examples, self.seconds, self.waited = (
            spent.get(f"speed/{name}", 0) for name in ("examples", "seconds", "waited")
        )
        self._moments, self._warned = 0, False

    def __call__(self, moment: Moment) -> None:
        """Counts one moment."""
        self.examples += moment.examples
        self.seconds += moment.seconds
        self.waited += moment.waited
        self._moments += 1
        share = moment.waited / moment.seconds if moment.seconds else 0
        if share > MUCH and self._moments > 1 and not self._warned:  # at first the pipeline is empty
            self._warned = True
            moment.warnings.append(
                f"The devices waited for data {share:.0%} of the time. `launch.py bench_data` with this config says "
                "what takes it; smaller files, more cores, or a set that fits (data.size, data.max_bytes) help."
            )

    @property
    def spent(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"speed/examples": self.examples, "speed/seconds": self.seconds, "speed/waited": self.waited}


def save(checkpoints: Checkpoints, speed: Speed | None = None) -> Hook:
    """Saves the state, with the scalars of this moment by which the best one is chosen, and the time it took so far.

    The hook raises DivergedError instead where the state is not finite, or would not be after one step more: what is
    saved can be gone on from.
    """

    def hook(moment: Moment) -> None:
        if not moment.sound():
            raise DivergedError(
                f"The state after step {moment.step} is not finite, or is not after one step more: it is not saved. "
                "The checkpoints before are kept. Lower the learning rate, or clip gradients.",
                moment.step,
            )
        unfinished = [[np.asarray(leaf).tolist() for leaf in jax.tree.leaves(found)] for found in moment.unfinished]
        more = {UNFINISHED: unfinished} if unfinished else {}
        checkpoints.save(moment.step, moment.state, {**moment.scalars, **(speed.spent if speed else {}), **more})

    return hook
