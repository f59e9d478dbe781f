"""Exact passes over a split: what any measure finds in it, each compiled once."""

import itertools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxrec import metrics
from jaxrec.data.batches import OWN, Batches
from jaxrec.engine.lowering import lower
from jaxrec.errors import InputError, check_is, described
from jaxrec.machine.watchdog import beat
from jaxrec.metrics import Metrics
from jaxrec.sharding import Parallel
from jaxrec.tasks.task import State
from jaxrec.trees import check_same, leaf_types
from jaxrec.types import Array, Batch, PyTree

Measure = Callable[[State, Batch, Array], Metrics]  # (state, batch, key) -> statistics of a batch


def evaluator(
    own: Measure,
    template: State,
    key: Array,
    *,
    parallel: Parallel,
    place: Callable[[PyTree], PyTree],
    compiled: list[str],
) -> Callable[..., dict[str, float | np.ndarray]]:
    """Returns (state, batches, measure=own) -> what the measure, any callable, finds over one pass.

    Args:
      own: the task's measure.
      template: shapes, types and shardings of a state.
      key: the root of what is drawn, on the devices: a pass at step s draws from fold_in(key, s).
      parallel: the devices.
      place: puts host arrays on them, each once.
      compiled: gets the name of each measure that is compiled.
    """
    programs: dict[tuple, Callable] = {}  # by text and arguments
    known: dict[tuple, tuple[Measure, dict[str, str], Callable]] = {}  # measures seen, and what each was compiled to

    def evaluate(
        state: State, batches: Batches, measure: Measure = own, between: Callable[[], object] = lambda: None
    ) -> dict[str, float | np.ndarray]:
        """What `measure` finds over one pass. As under jit, what it closes over is read at its first call.

        `between` is called between batches: what it raises ends the pass.
        """
        check_is(batches, Batches, "evaluate and predict take batches, such as eval_batches makes of arrays")
        if batches.endless:
            raise InputError("These batches have no end: make them of the same arrays by eval_batches.")
        check_same(state, template, "This state")
        parallel.check_batch(batches.batch_size)
        data, first = place(batches.resident), batches.host(0)
        streamed = {path: kind for path, kind in leaf_types(first).items() if path not in OWN}
        arguments = {"batch_size": str(batches.batch_size), **leaf_types(data), **streamed}

        def eval_step(state: State, resident: PyTree, rows: PyTree, key: Array) -> Metrics:
            def measured(state: State, batch: Batch, key: Array) -> Metrics:
                return _checked(measure(state, batch, key), name)

            batch = batches.fetch(resident, rows)
            return parallel.spread(measured)(state, batch, jax.random.fold_in(key, state.step))

        name = "eval_step" if measure is own else getattr(measure, "__name__", type(measure).__name__)
        signature = (id(measure), batches.fetch, *arguments.items())
        if signature not in known:
            for _, before, _ in [entry for entry in known.values() if entry[0] is measure][-1:]:
                _warn_of_another(name, before, arguments)
            rows = parallel.split(first)
            options = {"out_shardings": parallel.whole, "compiler_options": parallel.repeatable}
            lowered = lower(eval_step, template, data, rows, key, place=place, **options)
            # Two lambdas of one text are one program; what they close over are its arguments. An argument that is not
            # used is in no text, nor are the kinds of metrics.
            same = (lowered.text, lowered.kinds, *arguments.items(), *leaf_types(lowered.arrays).items())
            if not lowered.told:
                same = (*same, id(measure))
            if same not in programs:
                compiled.append(name)
                programs[same] = lowered.stage.compile()
            known[signature] = measure, arguments, lowered.bind(programs[same])
        step, found = known[signature][2], []
        with jax.transfer_guard("disallow"):
            for rows in itertools.chain([first], map(batches.host, range(1, batches.per_pass))):
                jax.block_until_ready(found[-2:-1])  # no more than two batches hold their rows
                beat()
                between()
                found.append(parallel.settle(step(state, data, parallel.split(rows), key)))
            return metrics.compute(found)

    return evaluate


def _checked(found: Any, name: str) -> Metrics:
    """What a measure returned, if it is metrics by name."""
    for metric in found.values() if isinstance(found, Mapping) else [found]:
        if not isinstance(found, Mapping) or not hasattr(metric, "merge"):
            raise InputError(
                f"{name} gives {described(metric)}, wanted are metrics by name: jaxrec.metrics.means({{'error': "
                "values}, batch['mask']) makes them of a value for each example."
            )
    return found


def _warn_of_another(name: str, known: dict[str, str], new: dict[str, str]) -> None:
    """Warns that a step function is compiled once more, and says what differs from the last time."""
    keys = [key for key in {**known, **new} if known.get(key) != new.get(key)]
    changed = [f"{key} {known.get(key, 'missing')} -> {new.get(key, 'missing')}" for key in keys] or ["transform"]
    warnings.warn(
        f"{name} is compiled once more, since these batches differ: {', '.join(changed)}. Splits of the same arrays, "
        "batch size and transform share one program.",
        stacklevel=3,
    )
