"""How the gradient of an objective is taken: at once or in parts of the batch. For hand-written tasks as for others.

An objective is (params, extra, batch, key) -> (loss, (extra, metrics)): `extra` is what is collected besides, such as
batch statistics; loss and metrics are sums over examples, so that those of parts add up. Its gradient is
(params, extra, batch, key) -> (grads, (extra, metrics)).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxrec.errors import InputError
from jaxrec.metrics import Mean, Metrics
from jaxrec.types import Array, Batch, Count, Key, PyTree

Objective = Callable[[PyTree, PyTree, Batch, Key], tuple[Array, tuple[PyTree, Metrics]]]
Gradient = Callable[[PyTree, PyTree, Batch, Key], tuple[PyTree, tuple[PyTree, Metrics]]]


def at_once(objective: Objective) -> Gradient:
    """The gradient on the whole batch."""
    return jax.grad(objective, has_aux=True)


def accumulated(parts: Count) -> Callable[[Objective], Gradient]:
    """The gradient of the batch taken in so many parts, one after the other: the same sum in less memory.

    Gradients and metrics of the parts add up. `extra` goes through the parts in turn, so batch normalisation sees a
    part at a time, and each part draws from a key of its own.

    Raises:
      InputError: when traced, where the parts do not divide the batch.
    """
    if parts == 1:
        return at_once

    def gradient(objective: Objective) -> Gradient:
        of_part = at_once(objective)

        def in_turn(params: PyTree, extra: PyTree, batch: Batch, key: Key) -> tuple[PyTree, tuple[PyTree, Metrics]]:
            def take(carry: tuple[PyTree, PyTree], part: tuple[Batch, Key]) -> tuple[tuple[PyTree, PyTree], Metrics]:
                total, extra = carry
                grads, (extra, metrics) = of_part(params, extra, *part)
                return (jax.tree.map(jnp.add, total, grads), extra), metrics

            zeros = jax.tree.map(jnp.zeros_like, params)
            inputs = (in_parts(batch, parts, f"accumulate = {parts}"), jax.random.split(key, parts))
            (grads, extra), metrics = jax.lax.scan(take, (zeros, extra), inputs)
            return grads, (extra, jax.tree.map(lambda values: values.sum(0), metrics))

        return in_turn

    return gradient


def norm(grads: PyTree) -> Mean:
    """The norm of a gradient over all parameters, as a metric: over several steps the mean of theirs."""
    return Mean(optax.tree.norm(grads), jnp.ones(()))


def in_parts(batch: Batch, parts: Count, what: str) -> Batch:
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
