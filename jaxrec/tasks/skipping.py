"""Steps that are not taken where they would end in numbers that are not finite."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrec.metrics import Largest, Mean, Metrics
from jaxrec.sharding import mean_over_devices
from jaxrec.tasks.task import State, Task
from jaxrec.trees import all_finite
from jaxrec.types import Array, Batch, Key, PyTree


class Skipping(NamedTuple):
    """What `skipping` keeps as the optimizer state of the task around the task."""

    opt_state: PyTree  # the task's own
    in_a_row: Array  # steps that were skipped since the last one that was taken, int32
    skipped: Array  # steps that were skipped in all, int32


def skipping(task: Task) -> Task:
    """The same task, whose state stays as it is, to the bit, where a step would make it or its metrics not finite.

    Only the count of steps goes on, and with it what is drawn. A skipped step counts in no metric but two: "skipped",
    the share of steps that were, and "skipped_in_a_row", the longest run of them. `stop_if_skipping` of
    `jaxrec.engine.hooks` ends a run that skips too many in a row, and `unless_skipping` keeps what was saved before
    these: nothing that is not finite is ever accepted, unlike `optax.apply_if_finite`, which does so in the end.
    """

    def own(state: State) -> State:
        return state.replace(opt_state=state.opt_state.opt_state)

    def init(key: Key, batch: Batch) -> State:
        state, none = task.init(key, batch), jnp.zeros((), jnp.int32)
        return state.replace(opt_state=Skipping(state.opt_state, none, none))

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        before = own(state)
        after, metrics = task.train_step(before, batch, key)
        # Under pmap one device alone may have found something; all of them skip, or none.
        good = mean_over_devices(all_finite((after, metrics)).astype(jnp.float32)) == 1

        def chosen(new: Array, old: Array) -> Array:
            return jnp.where(good, new, old)

        kept = jax.tree.map(chosen, after, before)
        in_a_row = jnp.where(good, 0, state.opt_state.in_a_row + 1)
        count = Skipping(kept.opt_state, in_a_row, state.opt_state.skipped + jnp.where(good, 0, 1))
        metrics = jax.tree.map(lambda value: jnp.where(good, value, jnp.zeros_like(value)), dict(metrics))
        metrics["skipped"] = Mean(1 - good.astype(jnp.float32), jnp.float32(1))
        metrics["skipped_in_a_row"] = Largest(in_a_row)
        return kept.replace(step=after.step, opt_state=count), metrics

    def eval_step(state: State, batch: Batch, key: Key) -> Metrics:
        return task.eval_step(own(state), batch, key)

    def predict_step(state: State, batch: Batch, key: Key) -> PyTree:
        return task.predict_step(own(state), batch, key)

    return Task(init, train_step, eval_step, predict_step if task.predict_step else None)
