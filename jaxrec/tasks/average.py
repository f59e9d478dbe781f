"""Moving averages of what a task learns."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxrec.errors import InputError
from jaxrec.metrics import Metrics
from jaxrec.tasks.task import AVERAGE, State, Task
from jaxrec.types import Array, Batch, Key, PyTree


def with_average(task: Task, decay: float, *, submodule: str | None = None) -> Task:
    """The same task with an exponential moving average of its parameters and batch statistics beside it.

    After step t the average is a * average + (1 - a) * value with a = min(decay, (t - 1) / (t + 9)), which grows like
    that of TensorFlow's ExponentialMovingAverage and keeps nothing of the initial state (Polyak and Juditsky, 1992).
    What is no floating point number, a counter, is the newest value. An evaluation gives each metric twice: of the
    state and, named "ema_...", of the average; a prediction is the average's. The task sees the average of before a
    step in `State.extra["ema"]`, so a loss can ask for it.

    Raises InputError for another decay, and in `init` where the task keeps an average already.

    Args:
      task: what is learned; its training is left as it is.
      decay: the share of the average that a step keeps, such as 0.999.
      submodule: the entry of the state's trees that is averaged, of a task that learns several networks.
    """

    if not 0 <= decay < 1:
        raise InputError(f"with_average(decay = {decay}): allowed is a number from 0 to below 1, such as 0.999.")

    def current(state: State) -> PyTree:
        found = learned(state)
        return {kind: {submodule: tree[submodule]} for kind, tree in found.items()} if submodule else found

    def init(key: Key, batch: Batch) -> State:
        state = task.init(key, batch)
        if AVERAGE in state.extra:
            raise InputError(
                "with_average around with_average: a state keeps one moving average. Leave one of them out."
            )
        return state.replace(extra={**state.extra, AVERAGE: current(state)})

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        new, metrics = task.train_step(state, batch, key)
        steps = state.step.astype(jnp.float32)  # before this one: t - 1
        keep = jnp.minimum(decay, steps / (steps + 10))

        def average(old: Array, value: Array) -> Array:
            return keep * old + (1 - keep) * value if jnp.issubdtype(value.dtype, jnp.inexact) else value

        return new.replace(
            extra={**new.extra, AVERAGE: jax.tree.map(average, state.extra[AVERAGE], current(new))}
        ), metrics

    def eval_step(state: State, batch: Batch, key: Key) -> Metrics:
        of_average = {f"ema_{name}": metric for name, metric in task.eval_step(averaged(state), batch, key).items()}
        return {**task.eval_step(state, batch, key), **of_average}

    def predict_step(state: State, batch: Batch, key: Key) -> PyTree:
        return task.predict_step(averaged(state), batch, key)

    return Task(init, train_step, eval_step, predict_step if task.predict_step else None)


def averaged(state: State) -> State:
    """The state with its moving average in the place of what is averaged; without one, the state as it is."""
    if AVERAGE not in state.extra:
        return state
    average, params = state.extra[AVERAGE], state.params
    whole = isinstance(params, Mapping)  # of which some entries may be averaged alone
    return state.replace(
        params={**params, **average["params"]} if whole else average["params"],
        extra={**state.extra, **average["extra"]},
    )


def learned(state: State) -> PyTree:
    """What a task has learned, without the average of it: {"params": ..., "extra": ...}."""
    return {"params": state.params, "extra": state.collections}
