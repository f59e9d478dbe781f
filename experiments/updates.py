"""From gradients to updates: the optimizer of a config and what stands before and behind it, for every experiment."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.settings.make import make
from experiments.settings.specs import OptimizerSpec, ScalarOrSchedule, named
from jaxrec.engine.lowering import lower
from jaxrec.errors import InputError
from jaxrec.optim import optimizers
from jaxrec.types import Count, Factors, NonNegative, Pattern, Positive, Rate, Share


class Updates(NamedTuple):
    """What is done to gradients before the optimizer and to its updates behind it; what they are averaged to.

    Weight decay, `l1`, `l2` and the optimizer's own, leaves parameters of one dimension alone: biases and norm scales.

    Attributes:
      accumulate: the parts in which a step takes its batch, one after the other, to save memory.
      freeze: parameters with this pattern in their path, such as "^Conv_0/", stay as they are. What follows never sees
        them: they take no decay, and their gradients count in no norm.
      clip_norm: gradients are scaled down to this global norm.
      l1: added to the gradients of kernels as l1 * sign(weight), the derivative of l1 * |weight|.
      l2: added to them as l2 * weight, the derivative of l2 / 2 * |weight|^2. The optimizer is next.
      lr_factors: updates are multiplied by the factor of the first pattern found in the parameter's path, if any.
      layer_decay: each block of a transformer learns by this factor slower than the next.
      ema: how much of itself a moving average of the parameters keeps at a step, such as 0.999; 0 for none. It is
        evaluated beside them ("ema_..."), chooses the best checkpoint, and is what a finished run is taken for.
    """

    accumulate: Count = 1
    freeze: Pattern | None = None
    clip_norm: Positive | None = None
    l1: NonNegative = 0.0
    l2: NonNegative = 0.0
    lr_factors: Factors = ()
    layer_decay: Share | None = None
    ema: Rate = 0.0


def make_optimizer(
    section: Mapping[str, Any], updates: Updates = Updates(), *, steps: int
) -> optax.GradientTransformation:
    """The optimizer of a section, with all of `updates` that is done to gradients and updates.

    Args:
      section: the optimizer's name in `jaxrec.optim.optimizers` or optax and its arguments. A rate is a number or the
        section of a schedule of `jaxrec.optim.schedules` or optax, whose `steps`, `decay_steps` or `transition_steps`,
        where left out, is the whole run.
      updates: what stands before and behind it, in the order of its fields.
      steps: in the whole run.

    Raises:
      InputError: there is no such name, it refuses the arguments, or needs more than gradients and parameters. Patterns
        and names of layers are looked for at `init`.
    """
    try:
        arguments = {
            key: _schedule(value, steps) if isinstance(value, Mapping) else _input(key, value)
            for key, value in section.items()
        }
        optimizer = make(OptimizerSpec, arguments)
        masks = {"mask", "weight_decay_mask"} & set(inspect.signature(optimizer).parameters)
        tx = optax.chain(
            optax.clip_by_global_norm(updates.clip_norm) if updates.clip_norm else optax.identity(),
            optimizers.l1(updates.l1) if updates.l1 else optax.identity(),
            optax.add_decayed_weights(updates.l2, mask=optimizers.decayed) if updates.l2 else optax.identity(),
            optimizer(**{mask: optimizers.decayed for mask in masks if mask not in optimizer.keywords}),
        )
        weights = {"kernel": jax.ShapeDtypeStruct((2, 2), jnp.float32)}
        jax.eval_shape(lambda weights: tx.update(weights, tx.init(weights), weights), weights)  # nothing is computed
    except (ValueError, TypeError, AttributeError) as error:
        message = f"config.optimizer, {section['name']} over {steps} steps: {' '.join(str(error).split())[:200]}"
        raise InputError(message) from error
    return optax.chain(
        tx if updates.freeze is None else optimizers.freeze(updates.freeze, tx),
        optimizers.scale_by_path(updates.lr_factors) if updates.lr_factors else optax.identity(),
        optax.identity() if updates.layer_decay is None else optimizers.layer_decay(updates.layer_decay),
    )


def rate_of(section: Mapping[str, Any], *, steps: int, each: int = 1) -> optax.Schedule | None:
    """The learning rate of the optimizer of a section, as a function of the run's steps; None where it needs none.

    Args:
      section: as in `make_optimizer`.
      steps: that the optimizer takes in the whole run.
      each: of its steps are one of the run.
    """
    rate = section["learning_rate"]
    if not isinstance(rate, Mapping):
        return None if rate is None else lambda step: rate
    schedule = _schedule(rate, steps)

    @functools.cache
    def compiled() -> Callable:
        # Operation by operation the first call would take most of a second; who never asks does not wait for this.
        return lower(schedule, np.int32(0), place=lambda peak: peak).compile()

    return lambda step: compiled()(np.int32(step * each))


def _schedule(section: Mapping[str, Any], steps: int) -> optax.Schedule:
    """The schedule of a section, over the whole run where it leaves its steps out."""
    schedule = make(ScalarOrSchedule, {key: _input(key, value) for key, value in section.items()})
    taken = inspect.signature(schedule).parameters
    whole_run = {name: steps for name in named(ScalarOrSchedule).whole_run if name in taken}
    return schedule(**{**whole_run, **schedule.keywords})


def _input(key: str, value: Any) -> Any:
    """A rate as a jax array, which is an input of the programs that it is in: many rates are one program."""
    is_rate = key.endswith("learning_rate") or key in ("peak", "init_value")
    return jnp.asarray(value) if is_rate and isinstance(value, int | float) else value
