"""Traced functions, equation by equation."""

from collections.abc import Callable

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var, jaxpr_as_fun

from jaxrec.types import Array


def alone(jaxpr: Jaxpr, equation: JaxprEqn) -> Callable[..., list[Array]]:
    """One equation of a traced function as a function of its operands."""
    operands = [Var(atom.aval) for atom in equation.invars]
    results = [Var(var.aval) for var in equation.outvars]
    own = equation.replace(invars=operands, outvars=results)
    return jaxpr_as_fun(ClosedJaxpr(jaxpr.replace(constvars=[], invars=operands, outvars=results, eqns=[own]), []))
