"""A Task: what is learned, as a NamedTuple of pure functions.

A Task is to training what optax's GradientTransformation is to optimisation. The trainer owns time and devices and
calls these three functions; the task owns the step: models, losses, gradients and optimizers live in here alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxrec import metrics
from jaxrec.metrics import Metrics
from jaxrec.sharding import mean_over_devices
from jaxrec.types import Array, Batch, Key, Loss, PyTree


@flax.struct.dataclass
class State:
    """All that a task learns. It holds no PRNG key: randomness is a function of (seed, step)."""

    step: Array  # optimizer steps taken, int32 scalar
    params: PyTree
    opt_state: PyTree
    extra: PyTree  # what is collected besides: batch statistics, moving averages, or {}


class Task(NamedTuple):
    """What the trainer runs. Each function is pure, written for the global batch, and compiled by the trainer."""

    init: Callable[[Key, Batch], State]
    train_step: Callable[[State, Batch, Key], tuple[State, Metrics]]
    eval_step: Callable[[State, Batch, Key], Metrics]


def minimize(
    objective: Callable[[PyTree], tuple[Array, Any]],
    tx: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
) -> tuple[PyTree, PyTree, Any]:
    """Takes one optimizer step on `objective(params) -> (loss, aux)`.

    Returns:
      (new params, new opt_state, aux at the old params).
    """
    grads, aux = jax.grad(objective, has_aux=True)(params)
    updates, opt_state = tx.update(mean_over_devices(grads), opt_state, params)
    return optax.apply_updates(params, updates), opt_state, aux


def from_loss(model: nn.Module, loss: Loss, tx: optax.GradientTransformation) -> Task:
    """The task of minimising one loss over a model's outputs: a recogniser, an autoencoder, ...

    Args:
      model: called as `model(image, train=...)`. Its params are optimised; its other collections (batch statistics)
        are carried in `State.extra` and updated in training.
      loss: called as `loss(outputs, batch)`, gives per-example values [B]; "loss" is what is minimised, all of them
        are metrics.
      tx: the optimizer.

    Rows whose mask is False count in no loss and no metric. In training they must hold finite values all the same: a
    NaN reaches the gradient through 0 * NaN, and batch normalisation sees every row. `train_batches` never pads.
    """

    def init(key: Key, batch: Batch) -> State:
        variables = model.init(key, batch["image"], train=False)
        params = variables["params"]
        extra = {name: tree for name, tree in variables.items() if name != "params"}
        return State(jnp.zeros((), jnp.int32), params, tx.init(params), extra)

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        def objective(params: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
            outputs, extra = model.apply(
                {"params": params, **state.extra},
                batch["image"],
                train=True,
                rngs={"dropout": key},
                mutable=list(state.extra),
            )
            statistics = metrics.means(loss(outputs, batch), batch["mask"])
            total, count = statistics["loss"]
            return total / count, (extra, statistics)

        params, opt_state, (extra, statistics) = minimize(objective, tx, state.params, state.opt_state)
        return State(state.step + 1, params, opt_state, extra), statistics

    def eval_step(state: State, batch: Batch, key: Key) -> Metrics:
        del key  # nothing is drawn in evaluation
        outputs = model.apply({"params": state.params, **state.extra}, batch["image"], train=False)
        return metrics.means(loss(outputs, batch), batch["mask"])

    return Task(init, train_step, eval_step)
