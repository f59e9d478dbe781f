"""Moving averages of what a task learns."""

import jax
import jax.numpy as jnp

from jaxrec.metrics import Metrics
from jaxrec.tasks.task import State, Task
from jaxrec.types import Batch, Key, PyTree


def with_average(task: Task, decay: float, *, part: str | None = None) -> Task:
    """The same task with an exponential moving average of its parameters and batch statistics beside it.

    After step t the average is a * average + (1 - a) * value with a = min(decay, (t - 1) / (t + 9)), which grows like
    that of TensorFlow's ExponentialMovingAverage and keeps nothing of the initial state (Polyak and Juditsky, 1992). An
    evaluation gives each metric twice: of the state and, named "ema_...", of the average.

    Args:
      task: what is learned; its training is left as it is.
      decay: the share of the average that a step keeps, such as 0.999.
      part: the entry of the state's trees that is averaged, of a task that learns several networks.
    """

    def current(state: State) -> PyTree:
        found = learned(state)
        return {kind: {part: tree[part]} for kind, tree in found.items()} if part else found

    def init(key: Key, batch: Batch) -> State:
        state = task.init(key, batch)
        return state.replace(extra={**state.extra, "ema": current(state)})

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        new, metrics = task.train_step(_without(state), batch, key)
        steps = state.step.astype(jnp.float32)  # before this one: t - 1
        keep = jnp.minimum(decay, steps / (steps + 10))
        average = jax.tree.map(lambda old, value: keep * old + (1 - keep) * value, state.extra["ema"], current(new))
        return new.replace(extra={**new.extra, "ema": average}), metrics

    def eval_step(state: State, batch: Batch, key: Key) -> Metrics:
        of_average = {f"ema_{name}": metric for name, metric in task.eval_step(averaged(state), batch, key).items()}
        return {**task.eval_step(_without(state), batch, key), **of_average}

    return Task(init, train_step, eval_step)


def _without(state: State) -> State:
    """The state as the task knows it."""
    return state.replace(extra={name: tree for name, tree in state.extra.items() if name != "ema"})


def averaged(state: State) -> State:
    """The state with its moving average in the place of what is averaged; without one, the state as it is."""
    average = state.extra.get("ema", {"params": {}, "extra": {}})
    return state.replace(**{kind: {**tree, **average[kind]} for kind, tree in learned(state).items()})


def learned(state: State) -> PyTree:
    """What a task has learned, without the average of it: {"params": ..., "extra": ...}."""
    return {"params": state.params, "extra": _without(state).extra}
