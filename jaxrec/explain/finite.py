"""Where a function ceases to be finite: the first operation of it whose result is not, though its operands are."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend import source_info_util
from jax.extend.core import Jaxpr, Literal

from jaxrec.explain.traced import alone
from jaxrec.trees import all_finite
from jaxrec.types import PyTree

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


def _run(jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any], place: str = "") -> Iterator[str]:
    """Carries a traced function out, and yields what is not finite though its operands are. Returns the outputs."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def value(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

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
            results = alone(jaxpr, equation)(*operands)
            if all_finite(operands) and not all_finite(results):
                line = source_info_util.summarize(equation.source_info)
                yield f"{kind}{f' in {inside}' if inside else ''}, {line}"
        values.update(zip(equation.outvars, results, strict=True))
    return [value(variable) for variable in jaxpr.outvars]
