"""Where a run went wrong: which step was the first that is not finite, and in which tensors.

A run repeats itself to the bit, so its steps need not be watched: what went by is found by taking them again.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrec.engine.program import Program
from jaxrec.metrics import Metrics
from jaxrec.tasks.task import State
from jaxrec.trees import all_finite, copied, is_float, paths
from jaxrec.types import Array


class BadStep(NamedTuple):
    """A step from a finite state to one that is not, or whose metrics are not."""

    step: int  # how many were taken before it
    before: State
    after: State
    found: Metrics  # its statistics


def first_bad_step(program: Program, state: State, step: int, stop: int) -> BadStep | None:
    """Takes steps [step, stop) again, and returns the first that is not finite, or None.

    Args:
      program: of the run.
      state: after `step` steps, finite; used up.
      step: the first to take.
      stop: the first not to take.
    """
    at_once = program.log_every
    while step < stop:
        before = copied(state)
        end = min(stop, step + at_once)
        state, found = program.take(state, step, end)
        if bool(all_finite(found)) and program.finite(state):
            step = end
        elif end - step == 1:
            return BadStep(step, before, state, found[0])
        else:
            state, at_once = before, 1
    return None


def tensors(bad: BadStep) -> dict[str, dict[str, float | int]]:
    """Of each tensor of the state by path: its norm before and after a step, and how many NaN and Inf it has then."""
    looked = [jax.device_get(jax.jit(_looked_at)(state)) for state in (bad.before, bad.after)]
    names = [path for path, leaf in paths(bad.after).items() if is_float(leaf)]
    return {
        name: {"norm_before": float(norm), "norm_after": float(new), "nan": int(nan), "inf": int(inf)}
        for name, (norm, _, _), (new, nan, inf) in zip(names, *looked, strict=True)
    }


def _looked_at(state: State) -> list[tuple[Array, Array, Array]]:
    """(norm, number of NaN, number of Inf) of each floating point leaf."""

    def norm(leaf: Array) -> Array:
        largest = jnp.maximum(jnp.abs(leaf).max(initial=0), jnp.finfo(leaf.dtype).tiny)
        return largest * jnp.linalg.norm((leaf / largest).ravel())  # the square of 1e35 is none

    leaves = filter(is_float, jax.tree.leaves(state))
    return [(norm(leaf), jnp.isnan(leaf).sum(), jnp.isinf(leaf).sum()) for leaf in leaves]
