"""Several training steps in one call of the devices.

A call costs a fraction of a millisecond on any device. On a CPU the memory that a call takes for a moment is mapped
anew, page by page: taken for each step, that is up to half of a small network's time.
"""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrec.metrics import Metrics
from jaxrec.tasks.task import State
from jaxrec.types import Array, PyTree

# A tenth of both costs is little; more steps would only delay Ctrl-C.
STEPS_PER_CALL = 10
BYTES_PER_CALL = 64 * 2**20  # of rows: such a call takes long enough by itself
SECONDS_PER_CALL = 0.5  # of steps that take longer a call has one: whoever wants the run to stop waits for two calls


def steps_of(rows: PyTree) -> int:
    """How many steps one call takes, where a step's rows are these."""
    size = sum(row.nbytes for row in jax.tree.leaves(rows))
    return max(1, min(STEPS_PER_CALL, BYTES_PER_CALL // max(size, 1)))


def steps_in_time(at_once: int, seconds_per_step: float | None) -> int:
    """How many of up to `at_once` steps a call takes so that it does not take long; one while nothing is known."""
    if seconds_per_step is None:
        return 1
    return max(1, min(at_once, int(SECONDS_PER_CALL / max(seconds_per_step, 1e-9))))


def several_steps(train_step: Callable, at_once: int) -> Callable:
    """Makes one step into one call of up to `at_once`: rows are [at_once, B], metrics [at_once], one for each step."""

    def train_steps(state: State, resident: PyTree, rows: PyTree, count: Array, key: Array) -> tuple[State, Metrics]:
        first = jax.tree.map(lambda row: row[0], rows)
        if at_once == 1:
            state, part = train_step(state, resident, first, key)
            return state, jax.tree.map(lambda value: value[None], part)

        def body(index: Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
            state, part = train_step(carry[0], resident, jax.tree.map(lambda row: row[index], rows), key)
            return state, jax.tree.map(lambda values, value: values.at[index].set(value), carry[1], part)

        part = jax.eval_shape(train_step, state, resident, first, key)[1]
        parts = jax.tree.map(lambda value: jnp.zeros((at_once, *value.shape), value.dtype), part)
        # The count is an argument, so that one program takes every call, a short last one too, to the same bits.
        return jax.lax.fori_loop(0, count, body, (state, parts))

    return train_steps


def slow_in_a_loop(program: str) -> bool:
    """Whether a program, as StableHLO, has a convolution for which XLA's CPU compiler runs a plain loop nest in a loop.

    Its fast kernels know one order of the dimensions. At the top of a program XLA moves the data to that order; in the
    body of a loop it does not, which makes a step 10 to 40 times slower.
    """
    orders = re.findall(r"stablehlo\.convolution.*? dim_numbers = \[(.*?)\]x\[(.*?)\]->\[(.*?)\]", program)
    spatial = [", ".join(str(axis) for axis in range(image.count(",") - 1)) for image, _, _ in orders]
    known = [(f"b, {axes}, f", f"{axes}, i, o", f"b, {axes}, f") for axes in spatial]
    return orders != known
