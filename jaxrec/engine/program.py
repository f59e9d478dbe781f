"""A task compiled for some devices and data: everything that a loop calls, each step function compiled once."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxrec import metrics
from jaxrec.data.batches import Batches
from jaxrec.data.checks import check_classes
from jaxrec.engine.evaluation import evaluator
from jaxrec.engine.feeding import Feed
from jaxrec.engine.lowering import Lowered, lower, placer
from jaxrec.engine.steps import several_steps, slow_in_a_loop, steps_in_time, steps_of
from jaxrec.errors import InputError, check_is
from jaxrec.machine.watchdog import beat
from jaxrec.metrics import Metrics
from jaxrec.sharding import Parallel, data_parallel
from jaxrec.tasks.task import State, Task
from jaxrec.trees import all_finite, copied, paths
from jaxrec.types import Array, Batch, PyTree


class Program(NamedTuple):
    """What `compile_task` returns."""

    init: Callable[[], State]  # the state before the first step
    # takes steps [first, stop); uses the state up
    train: Callable[[State, int, int], tuple[State, dict[str, float | np.ndarray]]]
    # the same, one entry of statistics for each step; ends before `stop` where asked() is true: (..., asked=never)
    take: Callable[..., tuple[State, list[Metrics]]]
    means: Callable[[Sequence[Metrics]], dict[str, float | np.ndarray]]  # of the statistics of several steps
    # (state, batches, measure=the task's): one exact pass over a split; `measure` is any (state, batch, key) -> Metrics
    evaluate: Callable[..., dict[str, float | np.ndarray]]
    predict: Callable[[State, Batches], PyTree]  # what the task predicts, [N, ...] for the split's examples in order
    on: Callable[[Batches], "Program"]  # the same, trained on other batches of the same arrays; compiles nothing
    finite: Callable[[State], bool]  # whether all of a state is
    sound: Callable[[State], bool]  # whether it is, and stays so for one step more; leaves the state usable
    template: State  # shapes, types and shardings of a state
    statistics: Metrics  # shapes and types of what a step finds
    batch_size: int
    log_every: int
    compiled: list[str]  # what was compiled so far, by name
    waited: Callable[[], float]  # seconds that the devices have waited for data so far
    least: Callable[[int], int]  # the least of the numbers that the processes give


def compile_task(
    task: Task,
    train: Batches,
    *,
    seed: int = 0,
    log_every: int = 50,
    steps_per_call: int | None = None,
    parallel: Parallel | None = None,
) -> Program:
    """Compiles the training step of a task now, and its evaluation step when it is first called: each once.

    Args:
      task: what to run.
      train: the batches to train on.
      seed: the root of all randomness: step s draws from fold_in(key(seed), s).
      log_every: train metrics are averaged over this many steps.
      steps_per_call: how many steps the devices take before they ask the host again, in a loop of their own; 10 by
        default, fewer of large streamed images. On a CPU some convolutions are slow inside a loop (those of
        `jaxrec.layers` are not): with these in the step the default is 1.
      parallel: the devices; all of them by default.

    Raises:
      InputError: the devices do not divide the batch size, the batches come to an end, or are none.
    """
    check_is(task, Task, "compile_task takes a task first, such as from_loss makes")
    check_is(train, Batches, "compile_task takes batches second, such as train_batches makes of a dictionary of arrays")
    parallel = data_parallel() if parallel is None else parallel
    parallel.check_batch(train.batch_size)
    if train.endless is False:
        raise InputError("These batches end after one pass: make them of the same arrays by train_batches.")
    place = placer(parallel)
    key = parallel.everywhere(jax.random.key(seed))
    compiled: list[str] = []
    feed = Feed()

    def init(key: Array, resident: PyTree, rows: PyTree) -> State:
        return task.init(key, train.fetch(resident, rows))

    def train_step(state: State, resident: PyTree, rows: PyTree, key: Array) -> tuple[State, Metrics]:
        batch = train.fetch(resident, rows)
        return parallel.spread(task.train_step)(state, batch, jax.random.fold_in(key, state.step))

    @functools.cache
    def placed(count: int) -> Array:
        return parallel.everywhere(np.int32(count))

    def lower_steps(probe: PyTree, at_once: int) -> Lowered:
        arguments = (template, data, probe, placed(1), key)
        options = {"out_shardings": (shardings, parallel.whole), "compiler_options": parallel.repeatable}
        return lower(several_steps(train_step, at_once), *arguments, place=place, donate_argnums=0, **options)

    def probe_of(at_once: int) -> PyTree:
        return parallel.split(jax.tree.map(lambda row: np.stack([row] * at_once), first_rows), axis=1)

    def rows_of(batches: Batches, first: int, count: int, at_once: int) -> PyTree:
        hosted = [batches.host(index) for index in range(first, first + count)]
        hosted += hosted[-1:] * (at_once - count)  # rows of steps that are not taken
        return parallel.split(jax.tree.map(lambda *rows: np.stack(rows), *hosted), axis=1)

    first_rows = train.host(0)
    data, rows = place(train.resident), parallel.split(first_rows)
    template = state_template(task, train, parallel)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, template)
    at_once = steps_per_call or steps_of(first_rows)
    probe = probe_of(at_once)
    lowered = lower_steps(probe, at_once)
    if steps_per_call is None and parallel.on_cpu and slow_in_a_loop(lowered.text):
        at_once, probe = 1, probe_of(1)
        lowered = lower_steps(probe, at_once)
    compiled.append("train_step")
    steps = lowered.compile()

    statistics = jax.tree.map(lambda out: jax.ShapeDtypeStruct(out.shape[1:], out.dtype), lowered.stage.out_info[1])
    seconds_per_step: float | None = None  # as known from the latest calls

    @functools.cache
    def compiled_init() -> Callable:
        # The state is made where it will lie: no host or device ever holds more than its part.
        compiled.append("init")
        options = {"out_shardings": shardings, "compiler_options": parallel.run_once}
        return lower(init, key, data, rows, place=place, **options).compile()

    def first_state() -> State:
        return parallel.settle(compiled_init()(key, data, rows))

    def take_steps(
        batches: Batches, state: State, first: int, stop: int, asked: Callable[[], bool] = lambda: False
    ) -> tuple[State, list[Metrics]]:
        nonlocal seconds_per_step
        parts: list[Metrics] = []
        counts: list[int] = []

        def calls() -> Iterator[tuple[Batches, int, int, int]]:
            index = first
            while index < stop:
                beat()  # before it waits for the other processes: one that they wait for has not come here
                count = min(steps_in_time(at_once, seconds_per_step), stop - index)
                count = parallel.least(0 if asked() else count)
                if not count:
                    return
                counts.append(count)
                yield batches, index, count, at_once
                index += count

        began = time.perf_counter()
        for rows in feed(rows_of, calls(), lambda: jax.block_until_ready(parts[-1:])):
            jax.block_until_ready(parts[-2:-1])  # no more than two calls hold their rows
            if parts[1:]:
                seconds_per_step = (time.perf_counter() - began) / sum(counts[: len(parts) - 1])
            state, part = parallel.settle(steps(state, data, rows, placed(counts[len(parts)]), key))
            parts.append(part)
            beat()
        each = zip(jax.device_get(parts), counts, strict=True)
        return state, [_entry(part, index) for part, count in each for index in range(count)]

    def means(taken: Sequence[Metrics]) -> dict[str, float | np.ndarray]:
        """What several steps found."""
        found = metrics.compute(taken)
        if not all(np.isfinite(value).all() for value in found.values()):
            _check_labels(task, template, train)
        return found

    def take_and_tell(
        batches: Batches, state: State, first: int, stop: int
    ) -> tuple[State, dict[str, float | np.ndarray]]:
        state, taken = take_steps(batches, state, first, stop)
        return state, means(taken)

    @functools.cache
    def compiled_finite() -> Callable[[State], Array]:
        compiled.append("finite")
        return jax.jit(all_finite, out_shardings=parallel.whole).lower(template).compile()

    @functools.cache
    def compiled_copy() -> Callable[[State], State]:
        compiled.append("copy")
        return jax.jit(copied, out_shardings=shardings).lower(template).compile()

    def finite(state: State) -> bool:
        """Whether all of a state is finite."""
        return bool(jax.device_get(parallel.settle(compiled_finite()(state))))

    def sound(state: State) -> bool:
        """Whether a state is finite, and stays so for a step more: parameters of 1e35 are finite, and lost."""
        if not finite(state):
            return False
        # The batch of step 0, which is the same for every run that comes by this state.
        after, part = parallel.settle(steps(compiled_copy()(state), data, probe, placed(1), key))
        return finite(after) and bool(all_finite(_entry(jax.device_get(part), 0)))

    def on(batches: Batches) -> Program:
        """The same programs, trained on other batches of the same arrays: another fold, another seed of the order."""
        same = batches.fetch is train.fetch and place(batches.resident) is data
        if not same or batches.batch_size != train.batch_size:
            raise InputError(
                f"Program.on: these batches are of other arrays, or of {batches.batch_size} examples instead of "
                f"{train.batch_size}, or go through another transform. Compile the task for them."
            )
        return program._replace(
            train=functools.partial(take_and_tell, batches), take=functools.partial(take_steps, batches)
        )

    evaluate = evaluator(task.eval_step, template, key, parallel=parallel, place=place, compiled=compiled)

    def predicted(state: State, batch: Batch, key: Array) -> Metrics:
        outputs, rows = task.predict_step(state, batch, key), len(batch["mask"])
        for path, leaf in paths(outputs).items():
            if leaf.shape[:1] != (rows,):
                raise InputError(
                    f"A prediction has a row for each of {rows} examples; {path or 'this one'} is {list(leaf.shape)}."
                )
        return {"": metrics.Rows({"outputs": outputs}, batch["mask"])}

    predicted.__name__ = "predict_step"

    def predict(state: State, batches: Batches) -> PyTree:
        """What the task predicts for each example of one pass, in its order."""
        if task.predict_step is None:
            raise InputError("This task predicts nothing: give it a `predict_step`, (state, batch, key) -> [B, ...].")
        return evaluate(state, batches, predicted)["outputs"]

    program = Program(
        init=first_state,
        train=functools.partial(take_and_tell, train),
        take=functools.partial(take_steps, train),
        means=means,
        evaluate=evaluate,
        predict=predict,
        on=on,
        finite=finite,
        sound=sound,
        template=template,
        statistics=statistics,
        batch_size=train.batch_size,
        log_every=log_every,
        compiled=compiled,
        waited=lambda: feed.waited,
        least=parallel.least,
    )
    return program


def state_template(task: Task, train: Batches, parallel: Parallel) -> State:
    """The shapes, types and shardings of a task's state, for `Checkpoints.restore`; nothing is computed."""

    def init(resident: PyTree, rows: PyTree) -> State:
        return task.init(jax.random.key(0), train.fetch(resident, rows))

    shapes = jax.eval_shape(init, train.resident, train.host(0))
    return jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        shapes,
        parallel.state(shapes),
    )


def _check_labels(task: Task, template: State, train: Batches) -> None:
    """Raises InputError where labels are none of the classes that a task predicts: its losses are NaN then."""
    if task.predict_step and isinstance(train.resident, Mapping) and "label" in train.resident:
        batch = jax.eval_shape(train.fetch, train.resident, train.host(0))
        outputs = jax.eval_shape(task.predict_step, template, batch, jax.eval_shape(lambda: jax.random.key(0)))
        if getattr(outputs, "ndim", 0) == 2:
            check_classes(train.resident["label"], outputs.shape[1])


def _entry(part: Metrics, index: int) -> Metrics:
    """The metrics of one step from those of several."""
    return jax.tree.map(lambda values: values[index], part)
