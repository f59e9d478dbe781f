"""Lowering a function so that the arrays it closes over are arguments of the program, not constants in it.

A teacher's parameters, a table of features, a learning rate: as constants they would be compiled into every program,
copied for each, and another value would be another program. That is what they still are where an inner function is
jitted itself (leave its `jax.jit` out), and under pmap.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend

from jaxrec.sharding import Parallel
from jaxrec.types import PyTree


class Lowered(NamedTuple):
    """A function lowered for arguments of given shapes, with the arrays it closes over beside it."""

    stage: jax.stages.Lowered
    arrays: list[jax.Array]

    @property
    def text(self) -> str:
        """The program, which does not depend on the arrays' values."""
        return self.stage.as_text()

    @property
    def kinds(self) -> jax.tree_util.PyTreeDef:
        """What the outputs are: the classes of metrics, and their fields that are no arrays."""
        return self.stage.out_tree

    @property
    def told(self) -> bool:
        """Whether the text says all that the program does: not which function of the host it calls back, if any."""
        return "callback" not in self.text and not getattr(jax.config, "jax_use_simplified_jaxpr_constants", False)

    def compile(self) -> Callable[..., PyTree]:
        """The compiled function. It cannot be compiled again: arguments of other shapes are an error."""
        return self.bind(self.stage.compile())

    def bind(self, program: Callable[..., PyTree]) -> Callable[..., PyTree]:
        """A program of this text as a function of the arguments alone."""
        return lambda *arguments: program(*arguments, self.arrays)


def lower(
    function: Callable[..., PyTree], *arguments: Any, place: Callable[[PyTree], PyTree], **options: Any
) -> Lowered:
    """Lowers a function for arguments, or their shapes.

    Args:
      function: what it closes over as jax arrays becomes an argument; numpy arrays and numbers stay constants.
      arguments: of the function.
      place: puts an array where the program runs, each once.
      options: of `jax.jit`.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    structure = jax.tree.structure(shape)
    held = [isinstance(constant, jax.Array) for constant in closed.consts]

    def run(*inputs: Any) -> PyTree:
        *arguments, arrays = inputs
        given = iter(arrays)
        constants = [next(given) if array else constant for constant, array in zip(closed.consts, held, strict=True)]
        program = jax.extend.core.ClosedJaxpr(closed.jaxpr, constants)
        return jax.tree.unflatten(structure, jax.extend.core.jaxpr_as_fun(program)(*jax.tree.leaves(arguments)))

    # The name of the program in profiles and texts; a functools.partial has none.
    run.__name__ = getattr(function, "__name__", type(function).__name__)
    arrays = [place(constant) for constant, array in zip(closed.consts, held, strict=True) if array]
    return Lowered(jax.jit(run, **options).lower(*arguments, arrays), arrays)


def placer(parallel: Parallel) -> Callable[[PyTree], PyTree]:
    """Returns a function that puts a host tree on every device, once however often it is asked."""
    placed: dict[Any, tuple[PyTree, PyTree]] = {}  # keeps the host tree, so that no id is used again

    def place(tree: PyTree) -> PyTree:
        leaves, structure = jax.tree.flatten(tree)
        same = (structure, *map(id, leaves))
        if same not in placed:
            placed[same] = (tree, parallel.everywhere(tree))
        return placed[same][1]

    return place
