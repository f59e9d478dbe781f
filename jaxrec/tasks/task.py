"""A Task: what is learned, as a NamedTuple of pure functions.

A Task is to training what optax's GradientTransformation is to optimisation. The trainer owns time and devices and
calls these functions; the task owns the step: models, losses, gradients and optimizers live in here alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax
import optax

from jaxrec.metrics import Metrics
from jaxrec.sharding import gathered, mean_over_devices, scattered
from jaxrec.types import Array, Batch, Key, PyTree

AVERAGE = "ema"  # the entry of `State.extra` that holds the moving average, where `with_average` keeps one


@flax.struct.dataclass
class State:
    """All that a task learns. It holds no PRNG key: randomness is a function of (seed, step)."""

    step: Array  # optimizer steps taken, int32 scalar
    params: PyTree
    opt_state: PyTree
    extra: PyTree  # what is collected besides: batch statistics, a moving average, or {}

    @property
    def collections(self) -> PyTree:
        """What a step collects besides parameters, by name, the moving average left out."""
        return {name: tree for name, tree in self.extra.items() if name != AVERAGE}

    @property
    def variables(self) -> PyTree:
        """What the one model of a task is applied with: its parameters and its other collections."""
        return {"params": self.params, **self.collections}


class Task(NamedTuple):
    """What the trainer runs. Each function is pure, written for the global batch, and compiled by the trainer.

    What the functions close over as jax arrays, such as a teacher's parameters, lies on the devices once, is an
    argument of the compiled programs and in no checkpoint; see `jaxrec.engine.lowering` for where it is not.
    """

    init: Callable[[Key, Batch], State]
    train_step: Callable[[State, Batch, Key], tuple[State, Metrics]]
    eval_step: Callable[[State, Batch, Key], Metrics]
    predict_step: Callable[[State, Batch, Key], PyTree] | None = None  # arrays [B, ...], for `Program.predict`


def descend(
    gradient: Callable[[PyTree], tuple[PyTree, Any]],
    tx: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
) -> tuple[PyTree, PyTree, Any, PyTree]:
    """Takes one optimizer step along `gradient(params) -> (grads, aux)`, such as `jax.grad(objective, has_aux=True)`.

    Returns:
      (new params, new opt_state, aux at the old params, the gradient there as a mean over all devices).
    """
    grads, aux = gradient(gathered(params))
    grads = scattered(mean_over_devices(grads))
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, aux, grads
