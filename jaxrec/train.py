"""The trainer: time and devices. It compiles a task for the devices, calls its step in a loop, and calls the hooks.

It knows tasks, batches, devices and hooks, and never mentions a model, a loss, an optimizer or a config.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from jaxrec import metrics
from jaxrec.checkpoint import Checkpoints
from jaxrec.data.pipeline import Batches
from jaxrec.errors import InputError
from jaxrec.metrics import Metrics
from jaxrec.sharding import Parallel, data_parallel
from jaxrec.task import State, Task
from jaxrec.types import Array, PyTree


class Program(NamedTuple):
    """A task compiled for some devices and data: everything the loop calls."""

    init: Callable[[], State]  # the state before the first step
    step: Callable[[State, int], tuple[State, Metrics]]  # takes step s; the state that goes in is used up
    evaluate: Callable[[State, Batches], dict[str, float]]  # one exact pass over a split
    template: State  # shapes, types and shardings of a state
    batch_size: int
    log_every: int
    temporary_bytes: int  # that a training step takes from its device for a moment
    compiled: list[str]  # what was compiled so far, by name


class Moment(NamedTuple):
    """What a hook sees, every `log_every` steps and at the last. The hooks of one moment run in order."""

    step: int  # steps taken
    steps: int  # steps in the run
    previous: int  # steps taken at the moment before
    state: State
    examples: int  # that the steps since the moment before trained on
    seconds: float  # that those steps took, hooks left out
    evaluate: Callable[[Batches], dict[str, float]]
    scalars: dict[str, float]  # "train/loss", ...: means since the moment before; hooks add what they find


Hook = Callable[[Moment], None]


def compile_task(
    task: Task,
    train: Batches,
    *,
    seed: int = 0,
    log_every: int = 50,
    parallel: Parallel | None = None,
) -> Program:
    """Compiles the training step of a task now, and its evaluation step when it is first called: each once.

    Args:
      task: what to run.
      train: the batches to train on.
      seed: the root of all randomness: step s draws from fold_in(key(seed), s).
      log_every: train metrics are averaged over this many steps.
      parallel: the devices; all of them by default.

    Raises:
      InputError: the devices do not divide the batch size.
    """
    parallel = data_parallel() if parallel is None else parallel
    parallel.check_batch(train.batch_size)
    place = _placer(parallel)
    key = parallel.everywhere(jax.random.key(seed))
    compiled: list[str] = []

    def build(name: str, function: Callable, *arguments: Any, **options: Any) -> Callable:
        # Compiled ahead of time, a step function cannot be compiled again behind the user's back: arguments of
        # other shapes are an error.
        compiled.append(name)
        return jax.jit(function, **options).lower(*arguments).compile()

    def init(key: Array, resident: PyTree, rows: PyTree) -> State:
        return task.init(key, train.fetch(resident, rows))

    def train_step(state: State, resident: PyTree, rows: PyTree, key: Array) -> tuple[State, Metrics]:
        batch = train.fetch(resident, rows)
        return parallel.spread(task.train_step)(state, batch, jax.random.fold_in(key, state.step))

    data, rows = place(train.resident), parallel.split(train.host(0))
    shapes = jax.eval_shape(init, key, data, rows)
    shardings = parallel.state(shapes)
    template = jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding), shapes, shardings
    )
    outputs = (shardings, parallel.whole)
    step = build("train_step", train_step, template, data, rows, key, donate_argnums=0, out_shardings=outputs)

    @functools.cache
    def compiled_init() -> Callable:
        # The state is made where it will lie: no host or device ever holds more than its part.
        return build("init", init, key, data, rows, out_shardings=shardings, compiler_options=parallel.run_once)

    def first_state() -> State:
        return parallel.settle(compiled_init()(key, data, rows))

    def next_state(state: State, index: int) -> tuple[State, Metrics]:
        return parallel.settle(step(state, data, parallel.split(train.host(index)), key))

    eval_steps: dict[Any, Callable] = {}

    def evaluate(state: State, batches: Batches) -> dict[str, float]:
        parallel.check_batch(batches.batch_size)
        data = place(batches.resident)

        def eval_step(state: State, resident: PyTree, rows: PyTree, key: Array) -> Metrics:
            batch = batches.fetch(resident, rows)
            return parallel.spread(task.eval_step)(state, batch, jax.random.fold_in(key, state.step))

        shapes = str(jax.tree.map(lambda array: (array.shape, array.dtype), data))
        signature = (batches.fetch, batches.batch_size, shapes)
        if signature not in eval_steps:
            rows = parallel.split(batches.host(0))
            eval_steps[signature] = build(
                "eval_step", eval_step, template, data, rows, key, out_shardings=parallel.whole
            )
        return metrics.compute(
            [
                parallel.settle(eval_steps[signature](state, data, parallel.split(batches.host(index)), key))
                for index in range(batches.per_pass)
            ]
        )

    temporary = getattr(step.memory_analysis(), "temp_size_in_bytes", 0)
    return Program(first_state, next_state, evaluate, template, train.batch_size, log_every, temporary, compiled)


def fit(
    program: Program,
    *,
    steps: int,
    hooks: Sequence[Hook] = (),
    checkpoints: Checkpoints | None = None,
) -> State:
    """Runs a program up to `steps` steps and returns the last state.

    Goes on from the newest checkpoint where there is one. The host waits for the devices once every `log_every`
    steps; between, nothing moves from or to them but the batch.

    Args:
      program: from `compile_task`.
      steps: to have taken at the end, those before a restored checkpoint included.
      hooks: called in order every `log_every` steps and after the last.
      checkpoints: where to look for the state to go on from; saving is a hook's work.

    Raises:
      InputError: the newest checkpoint is past `steps`, damaged, or of another model.
    """
    step = (checkpoints.latest() if checkpoints else None) or 0
    if step > steps:
        raise InputError(f"steps = {steps}: the newest checkpoint has taken {step} steps already. Ask for more.")
    state = checkpoints.restore(program.template, step) if step else program.init()
    with jax.transfer_guard("disallow"):
        while step < steps:
            previous, began, parts = step, time.perf_counter(), []
            step = min(steps, previous - previous % program.log_every + program.log_every)
            for index in range(previous, step):
                state, part = program.step(state, index)
                parts.append(part)
            scalars = {f"train/{name}": value for name, value in metrics.compute(parts).items()}
            moment = Moment(
                step=step,
                steps=steps,
                previous=previous,
                state=state,
                examples=(step - previous) * program.batch_size,
                seconds=time.perf_counter() - began,
                evaluate=functools.partial(program.evaluate, state),
                scalars=scalars,
            )
            for hook in hooks:
                hook(moment)
    return state


def _placer(parallel: Parallel) -> Callable[[PyTree], PyTree]:
    """Returns a function that puts a host tree on every device, once however often it is asked."""
    placed: dict[Any, tuple[PyTree, PyTree]] = {}  # keeps the host tree, so that no id is used again

    def place(tree: PyTree) -> PyTree:
        leaves, structure = jax.tree.flatten(tree)
        same = (structure, *map(id, leaves))
        if same not in placed:
            placed[same] = (tree, parallel.everywhere(tree))
        return placed[same][1]

    return place
