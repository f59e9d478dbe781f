"""A Task: what is learned, as a NamedTuple of pure functions.

A Task is to training what optax's GradientTransformation is to optimisation. The trainer owns time and devices and
calls these three functions; the task owns the step: models, losses, gradients and optimizers live in here alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxrec import metrics
from jaxrec.errors import InputError
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

    @property
    def variables(self) -> PyTree:
        """What the one model of a task is applied with: its parameters and its other collections."""
        return {"params": self.params, **self.extra}


class Task(NamedTuple):
    """What the trainer runs. Each function is pure, written for the global batch, and compiled by the trainer."""

    init: Callable[[Key, Batch], State]
    train_step: Callable[[State, Batch, Key], tuple[State, Metrics]]
    eval_step: Callable[[State, Batch, Key], Metrics]


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
    grads, aux = gradient(params)
    grads = mean_over_devices(grads)
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, aux, grads


def on_images(model: nn.Module, batch: Batch, train: bool) -> Any:
    """How most models are called: on the batch's images alone."""
    return model(batch["image"], train=train)


def from_loss(
    model: nn.Module,
    loss: Loss,
    tx: optax.GradientTransformation,
    *,
    call: Callable[[nn.Module, Batch, bool], Any] = on_images,
    train_loss: Loss | None = None,
    statistics: Callable[[Any, Batch], Metrics] | None = None,
    views: Callable[[Array], Sequence[Array]] | None = None,
    accumulate: int = 1,
) -> Task:
    """The task of minimising one loss over a model's outputs: a recogniser, an autoencoder, ...

    Args:
      model: its params are optimised; its other collections (batch statistics) are carried in `State.extra` and
        updated in training.
      loss: called as `loss(outputs, batch)`, gives per-example values [B]; "loss" is what is minimised, all of them
        are metrics.
      tx: the optimizer.
      call: what a model is called on, (model, batch, train) -> outputs: `model(image, train=...)`, or labels and the
        examples' own keys as well (`jaxrec.data.transforms.example_keys`).
      train_loss: minimised instead, where training weighs the examples otherwise than evaluation.
      statistics: more metrics of an evaluation, of its outputs and batch.
      views: what an evaluation shows of each image [B, H, W, C], such as the image and its mirror image; the outputs
        are averaged over them.
      accumulate: the batch is taken in so many parts, one after the other, and their gradients are added up before
        the one optimizer step: the same step in less memory, but that batch normalisation sees a part at a time.

    Rows whose mask is False count in no loss and no metric. In training they must hold finite values all the same: a
    NaN reaches the gradient through 0 * NaN, and batch normalisation sees every row. `train_batches` never pads.
    """
    train_loss = train_loss or loss

    def init(key: Key, batch: Batch) -> State:
        variables = model.init(key, batch, False, method=call)
        params = variables["params"]
        extra = {name: tree for name, tree in variables.items() if name != "params"}
        return State(jnp.zeros((), jnp.int32), params, tx.init(params), extra)

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        count = jnp.sum(batch["mask"], dtype=jnp.float32)

        def objective(params: PyTree, extra: PyTree, part: Batch, key: Key) -> tuple[Array, tuple[PyTree, Metrics]]:
            outputs, extra = model.apply(
                {"params": params, **extra}, part, True, method=call, rngs={"dropout": key}, mutable=list(extra)
            )
            means = metrics.means(train_loss(outputs, part), part["mask"])
            return means["loss"].total / count, (extra, means)

        accumulated = _accumulated(jax.grad(objective, has_aux=True), accumulate)
        params, opt_state, (extra, means), _ = descend(
            lambda params: accumulated(params, state.extra, batch, key), tx, state.params, state.opt_state
        )
        return State(state.step + 1, params, opt_state, extra), means

    def eval_step(state: State, batch: Batch, key: Key) -> Metrics:
        del key  # what is drawn in evaluation, an example draws from its own
        seen = views(batch["image"]) if views else [batch["image"]]
        outputs = [model.apply(state.variables, {**batch, "image": image}, False, method=call) for image in seen]
        outputs = jax.tree.map(lambda *each: sum(each) / len(each), *outputs)
        means = metrics.means(loss(outputs, batch), batch["mask"])
        return {**means, **statistics(outputs, batch)} if statistics else means

    return Task(init, train_step, eval_step)


def in_parts(batch: Batch, parts: int, what: str) -> Batch:
    """Cuts a batch of [B, ...] into [parts, B / parts, ...].

    Raises:
      InputError: beginning with `what`: the parts do not divide the batch.
    """

    def cut(rows: Array) -> Array:
        if len(rows) % parts:
            raise InputError(f"{what} does not divide a batch of {len(rows)} examples (on each device).")
        # Neighbours go to different parts, so that each part is spread over the devices as the batch is.
        return rows.reshape(-1, parts, *rows.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(cut, batch)


def _accumulated(gradient: Callable, parts: int) -> Callable:
    """Makes (params, extra, batch, key) -> (grads, (extra, means)) one that takes the batch in parts.

    Gradients and means of the parts add up. `extra` goes through them in turn, each part draws from a key of its own.
    """
    if parts == 1:
        return gradient

    def accumulated(params: PyTree, extra: PyTree, batch: Batch, key: Key) -> tuple[PyTree, tuple[PyTree, Metrics]]:
        def take(carry: tuple[PyTree, PyTree], part: tuple[Batch, Key]) -> tuple[tuple[PyTree, PyTree], Metrics]:
            total, extra = carry
            grads, (extra, means) = gradient(params, extra, *part)
            return (jax.tree.map(jnp.add, total, grads), extra), means

        zeros = jax.tree.map(jnp.zeros_like, params)
        inputs = (in_parts(batch, parts, f"accumulate = {parts}"), jax.random.split(key, parts))
        (grads, extra), means = jax.lax.scan(take, (zeros, extra), inputs)
        return grads, (extra, jax.tree.map(lambda values: values.sum(0), means))

    return accumulated
