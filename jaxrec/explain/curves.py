"""How far a map can be believed: what an answer does when the pixels that it names go, or come.

Petsiuk et al. (2018), "RISE: Randomized input sampling for explanation of black-box models".
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrec.explain.gradients import Apply, logits_of
from jaxrec.types import Array, Count


def deletion(
    apply: Apply,
    image: Array,
    target: Array,
    heat: Array,
    baseline: Array,
    *,
    steps: Count = 32,
    probabilities: Callable[[Array], Array] = jax.nn.softmax,
) -> Array:
    """The target's probability as pixels are covered, the hottest first, [B, steps + 1]. A good map's falls soon.

    Args:
      apply: images [B, H, W, C] -> logits [B, K].
      image: [B, H, W, C].
      target: the class that is explained, [B].
      heat: [B, H, W]. Of pixels that are equally hot the order is that of rows.
      baseline: what covers, of a shape that broadcasts, [1, 1, 1, C] for a colour.
      steps: equal parts, from the whole image to the baseline.
      probabilities: of logits [B, K].
    """
    return _curve(apply, image, baseline, target, heat, steps, probabilities)


def insertion(
    apply: Apply,
    image: Array,
    target: Array,
    heat: Array,
    baseline: Array,
    *,
    steps: Count = 32,
    probabilities: Callable[[Array], Array] = jax.nn.softmax,
) -> Array:
    """The target's probability as pixels are shown, the hottest first, [B, steps + 1]. A good map's rises soon.

    Arguments as in `deletion`.
    """
    return _curve(apply, baseline, image, target, heat, steps, probabilities)


def area(curve: Array) -> Array:
    """The area under curves over the share of pixels, [B, steps + 1] -> [B], by trapezia."""
    return ((curve[:, 1:] + curve[:, :-1]) / 2).mean(-1)


def _curve(
    apply: Apply,
    before: Array,
    after: Array,
    target: Array,
    heat: Array,
    steps: int,
    probabilities: Callable[[Array], Array],
) -> Array:
    """The target's probability on the way from one image to another, pixel by pixel."""
    flat = heat.reshape(len(heat), -1)
    order = jnp.argsort(-flat, axis=-1)  # stable
    rank = jnp.argsort(order, axis=-1).reshape(heat.shape)[..., None]  # of each pixel, 0 the hottest

    def at(share: Array) -> Array:
        shown = jnp.where(rank < share * flat.shape[1], after, before)
        return logits_of(probabilities(apply(shown)), target)

    return jax.lax.map(at, jnp.arange(steps + 1) / steps).T
