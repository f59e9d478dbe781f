"""Objects from their specs: {"name": "CNN", "widths": (32, 64)} and a module in which the name is looked up.

The module passed is the registry. `experiments/check.py` has checked names and arguments by the same signatures.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrec.errors import InputError, did_you_mean
from jaxrec.types import PyTree


def make(module: ModuleType, spec: Mapping[str, Any]) -> Callable[..., Any]:
    """Returns the function or class that `spec` names in `module`, its keyword arguments bound.

    Raises:
      InputError: the module has no such public name.
    """
    arguments = dict(spec)
    name = arguments.pop("name")
    names = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
    if name not in names:
        raise InputError(f"{module.__name__} has no {name!r}.{did_you_mean(name, names)} It has: {', '.join(names)}.")
    return functools.partial(getattr(module, name), **arguments)


def make_optimizer(
    spec: Mapping[str, Any], *, steps: int, clip_norm: float | None = None, l2: float = 0.0
) -> optax.GradientTransformation:
    """The optax optimizer of a spec.

    Args:
      spec: the optimizer's name in optax and its arguments. A rate is a number or the spec of an optax schedule, whose
        `decay_steps` or `transition_steps`, where left out, is the whole run.
      steps: in the whole run.
      clip_norm: gradients are scaled down to this global norm first.
      l2: added to the gradient as l2 * weight, the derivative of l2 / 2 * |weight|^2.

    Weight decay, `l2` and the optimizer's own, leaves biases and norm scales alone.

    Raises:
      InputError: optax has no such name, refuses the arguments, or needs more than gradients and parameters.
    """
    try:
        arguments = {
            key: _schedule(value, steps) if isinstance(value, Mapping) else value for key, value in spec.items()
        }
        optimizer = make(optax, arguments)
        masks = {"mask", "weight_decay_mask"} & set(inspect.signature(optimizer).parameters)
        tx = optax.chain(
            optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
            optax.add_decayed_weights(l2, mask=decayed) if l2 else optax.identity(),
            optimizer(**{mask: decayed for mask in masks if mask not in optimizer.keywords}),
        )
        weights = jax.ShapeDtypeStruct((2, 2), jnp.float32)
        jax.eval_shape(lambda weights: tx.update(weights, tx.init(weights), weights), weights)  # nothing is computed
    except (ValueError, TypeError, AttributeError) as error:
        message = f"config.optimizer, {spec['name']} over {steps} steps: {' '.join(str(error).split())[:200]}"
        raise InputError(message) from error
    return tx


def _schedule(spec: Mapping[str, Any], steps: int) -> optax.Schedule:
    """The optax schedule of a spec, over the whole run where it leaves its steps out."""
    schedule = make(optax.schedules, spec)
    wanted = inspect.signature(schedule).parameters
    whole_run = {name: steps for name in ("decay_steps", "transition_steps") if name in wanted}
    return schedule(**{**whole_run, **schedule.keywords})


def decayed(params: PyTree) -> PyTree:
    """True for the parameters that weight decay shrinks: kernels, which have 2 or more dimensions."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
