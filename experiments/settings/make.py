"""Objects from their specs: {"name": "CNN", "widths": (32, 64)} and the modules in which the name is looked up.

The modules passed are the registry. `experiments/settings/schema.py` has checked names and arguments by the same
signatures.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.settings.schema import WHOLE_RUN
from jaxrec.errors import InputError, did_you_mean
from jaxrec.optim import optimizers, schedules
from jaxrec.types import Factors


def make(modules: ModuleType | Sequence[ModuleType], spec: Mapping[str, Any]) -> Callable[..., Any]:
    """Returns the function or class that `spec` names in a module, its keyword arguments bound.

    Args:
      modules: one, or several of which the first that has the name is taken.
      spec: {"name": ..., **arguments}.

    Raises:
      InputError: no module has such a public name.
    """
    modules = [modules] if isinstance(modules, ModuleType) else modules
    arguments = dict(spec)
    name = arguments.pop("name")
    found = {}
    for public, value in itertools.chain.from_iterable(vars(module).items() for module in modules):
        if callable(value) and not public.startswith("_"):
            found.setdefault(public, value)
    if name not in found:
        where = " or ".join(module.__name__ for module in modules)
        raise InputError(f"No {name!r} in {where}.{did_you_mean(name, found)} There are: {', '.join(found)}.")
    return functools.partial(found[name], **arguments)


def make_optimizer(
    spec: Mapping[str, Any],
    *,
    steps: int,
    clip_norm: float | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    rates: Factors = (),
    layer_decay: float | None = None,
    freeze: str | None = None,
) -> optax.GradientTransformation:
    """The optimizer of a spec, between what is done to gradients before it and to its updates after it.

    In the order in which they are done:

    Args:
      spec: the optimizer's name in `jaxrec.optim.optimizers` or optax and its arguments. A rate is a number or the
        spec of a schedule of `jaxrec.optim.schedules` or optax, whose `steps`, `decay_steps` or `transition_steps`,
        where left out, is the whole run.
      steps: in the whole run.
      freeze: parameters with this pattern in their path stay as they are. What follows never sees them: they take no
        decay, and their gradients count in no norm.
      clip_norm: gradients are scaled down to this global norm.
      l1: added to the gradient as l1 * sign(weight), the derivative of l1 * |weight|.
      l2: added to the gradient as l2 * weight, the derivative of l2 / 2 * |weight|^2. The optimizer is next.
      rates: updates are multiplied by the factor of the first pattern found in the parameter's path, if any.
      layer_decay: updates are multiplied by its powers, the higher the nearer a layer is to the image.

    Weight decay, `l1`, `l2` and the optimizer's own, leaves parameters of one dimension alone: biases and norm scales.

    Raises:
      InputError: there is no such name, it refuses the arguments, or needs more than gradients and parameters. Patterns
        and names of layers are looked for at `init`.
    """
    try:
        arguments = {
            key: _schedule(value, steps) if isinstance(value, Mapping) else value for key, value in spec.items()
        }
        optimizer = make((optimizers, optax), arguments)
        masks = {"mask", "weight_decay_mask"} & set(inspect.signature(optimizer).parameters)
        tx = optax.chain(
            optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
            optimizers.l1(l1) if l1 else optax.identity(),
            optax.add_decayed_weights(l2, mask=optimizers.decayed) if l2 else optax.identity(),
            optimizer(**{mask: optimizers.decayed for mask in masks if mask not in optimizer.keywords}),
        )
        weights = {"kernel": jax.ShapeDtypeStruct((2, 2), jnp.float32)}
        jax.eval_shape(lambda weights: tx.update(weights, tx.init(weights), weights), weights)  # nothing is computed
    except (ValueError, TypeError, AttributeError) as error:
        message = f"config.optimizer, {spec['name']} over {steps} steps: {' '.join(str(error).split())[:200]}"
        raise InputError(message) from error
    return optax.chain(
        tx if freeze is None else optimizers.freeze(freeze, tx),
        optimizers.scale_by_path(rates) if rates else optax.identity(),
        optax.identity() if layer_decay is None else optimizers.layer_decay(layer_decay),
    )


def _schedule(spec: Mapping[str, Any], steps: int) -> optax.Schedule:
    """The schedule of a spec, over the whole run where it leaves its steps out."""
    schedule = make((schedules, optax.schedules), spec)
    wanted = inspect.signature(schedule).parameters
    whole_run = {name: steps for name in WHOLE_RUN if name in wanted}
    return schedule(**{**whole_run, **schedule.keywords})
