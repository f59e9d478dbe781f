"""The one place that chooses between XLA's own operation and the form that is fast on a CPU."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import jax

from jaxrec.types import Array

# Part of the key of jit's cache: a function compiled under one setting is not reused under the other.
_plain = jax.make_user_context(default_value=False)
_second_order = jax.make_user_context(default_value=False)


def plain() -> AbstractContextManager[None]:
    """Returns a context in which every layer is XLA's own operation, on a CPU too.

    For comparing the two, and for ruling the fast forms out when a result looks wrong:

      with layers.plain():
          logits = model.apply(variables, image, train=False)
    """
    return _plain(True)


def second_order() -> AbstractContextManager[None]:
    """Returns a context for what is differentiated twice, such as a gradient penalty.

    The fast forms are chosen by their first derivatives. Those of a convolution's gradient XLA compiles badly on a CPU,
    whatever form that has; here convolutions are matrix products, of which all derivatives are products as well.
    """
    return _second_order(True)


def in_second_order() -> bool:
    """Whether `second_order` is around what is being traced."""
    return _second_order.value


def on_cpu(fast: Callable[..., Array], own: Callable[..., Array], *operands: Array) -> Array:
    """Returns `fast(*operands)` where it is compiled for a CPU and `own(*operands)`, XLA's operation, elsewhere.

    The platform is known when a program is lowered, not when it is traced: the default device may be a GPU and the
    data on the host. So both are traced and one is compiled; the other leaves nothing behind.
    """
    if _plain.value:
        return own(*operands)
    return jax.lax.platform_dependent(*operands, cpu=fast, default=own)
