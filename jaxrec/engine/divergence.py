"""Where a run went wrong: which step was the first that is not finite, in which tensors, and where inside the step.

A run repeats itself to the bit, so its steps need not be watched: what went by is found by taking them again.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.extend.source_info_util
import jax.numpy as jnp

from jaxrec.engine.program import Program
from jaxrec.metrics import Metrics
from jaxrec.tasks.task import State
from jaxrec.trees import all_finite, copied, paths
from jaxrec.types import Array, PyTree


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
    names = [path for path, leaf in paths(bad.after).items() if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return {
        name: {"norm_before": float(norm), "norm_after": float(new), "nan": int(nan), "inf": int(inf)}
        for name, (norm, _, _), (new, nan, inf) in zip(names, *looked, strict=True)
    }


def _looked_at(state: State) -> list[tuple[Array, Array, Array]]:
    """(norm, number of NaN, number of Inf) of each floating point leaf."""

    def norm(leaf: Array) -> Array:
        largest = jnp.maximum(jnp.abs(leaf).max(initial=0), jnp.finfo(leaf.dtype).tiny)
        return largest * jnp.linalg.norm((leaf / largest).ravel())  # the square of 1e35 is none

    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return [(norm(leaf), jnp.isnan(leaf).sum(), jnp.isinf(leaf).sum()) for leaf in leaves]


def first_non_finite(function: Callable[..., PyTree], *arguments: PyTree) -> str | None:
    """Carries a function out operation by operation, and says which is the first whose result is not finite.

    Args:
      function: such as a task's `train_step`; it is traced, and what it jits is looked into.
      arguments: of it, finite.

    Returns:
      The operation, the place in the network where it has one, and the line of code it comes from; None where all is
      finite. A loop counts as one operation.
    """
    closed = jax.make_jaxpr(function)(*arguments)
    return next(_run(closed.jaxpr, closed.consts, jax.tree.leaves(arguments)), None)


# What a function does in a part of its own, with the parameter that holds it.
PARTS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def _run(
    jaxpr: jax.extend.core.Jaxpr, constants: Sequence[Any], arguments: Sequence[Any], place: str = ""
) -> Iterator[str]:
    """Carries a traced function out, and yields what is not finite though its operands are. Returns the outputs."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def value(variable: Any) -> Any:
        return variable.val if isinstance(variable, jax.extend.core.Literal) else values[variable]

    for equation in jaxpr.eqns:
        operands, kind = [value(variable) for variable in equation.invars], equation.primitive.name
        inside = "/".join(filter(None, (place, str(equation.source_info.name_stack))))
        if kind == "cond":
            part, operands = equation.params["branches"][int(operands[0])], operands[1:]
        else:
            part = equation.params[PARTS[kind]] if kind in PARTS else None
        if part is not None:
            inner, held = getattr(part, "jaxpr", part), getattr(part, "consts", ())
            results = yield from _run(inner, held, operands, inside)
        else:
            results = _apply(jaxpr, equation, operands)
            if all(map(_finite, operands)) and not all(map(_finite, results)):
                line = jax.extend.source_info_util.summarize(equation.source_info)
                yield f"{kind}{f' in {inside}' if inside else ''}, {line}"
        values.update(zip(equation.outvars, results, strict=True))
    return [value(variable) for variable in jaxpr.outvars]


def _apply(
    jaxpr: jax.extend.core.Jaxpr, equation: jax.extend.core.JaxprEqn, operands: Sequence[Any]
) -> Sequence[Array]:
    """Carries one equation of a traced function out."""
    given = {
        variable: operand
        for variable, operand in zip(equation.invars, operands, strict=True)
        if not isinstance(variable, jax.extend.core.Literal)
    }
    alone = jaxpr.replace(
        constvars=[],
        invars=list(given),
        outvars=equation.outvars,
        eqns=[equation],
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )
    return jax.extend.core.jaxpr_as_fun(jax.extend.core.ClosedJaxpr(alone, []))(*given.values())


def _finite(value: Any) -> bool:
    return not jnp.issubdtype(jnp.result_type(value), jnp.inexact) or bool(jnp.isfinite(value).all())
