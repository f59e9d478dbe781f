"""Maps by the gradient of a logit with respect to the pixels."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrec.types import Array, Count, Key, NonNegative

Apply = Callable[[Array], Array]  # images [B, H, W, C] -> logits [B, K], each of its own image alone


def saliency(apply: Apply, image: Array, target: Array) -> Array:
    """The gradient of each image's target logit, [B, H, W, C] (Simonyan et al., 2014).

    Args:
      apply: the network.
      image: [B, H, W, C].
      target: the class that is explained, [B].
    """
    return jax.grad(lambda image: logits_of(apply(image), target).sum())(image)


def smoothgrad(
    apply: Apply, image: Array, target: Array, key: Key, *, samples: Count = 32, noise: NonNegative = 0.15
) -> Array:
    """The mean gradient over noisy copies of each image, [B, H, W, C] (Smilkov et al., 2017).

    Args:
      apply: as in `saliency`, as are `image` and `target`.
      image: [B, H, W, C].
      target: [B].
      key: of the noise, which is the same for all images: what an image gets, its batch has no part in.
      samples: noisy copies.
      noise: deviation of the noise, as a share of the image's range.
    """
    reach = noise * (image.max((1, 2, 3), keepdims=True) - image.min((1, 2, 3), keepdims=True))

    def add(total: Array, number: Array) -> tuple[Array, None]:
        drawn = jax.random.normal(jax.random.fold_in(key, number), (1, *image.shape[1:]), image.dtype)
        return total + saliency(apply, image + reach * drawn, target), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(image), jnp.arange(samples))
    return total / samples


def integrated_gradients(apply: Apply, image: Array, target: Array, baseline: Array, *, steps: Count = 64) -> Array:
    """What each value adds to the logit on the way from a baseline, [B, H, W, C] (Sundararajan et al., 2017).

    Their sum is the logit of the image less that of the baseline, as far as `steps` gradients stand for the integral,
    each at the middle of its part of the way.

    Args:
      apply: as in `saliency`, as are `image` and `target`.
      image: [B, H, W, C].
      target: [B].
      baseline: an image that says nothing, of a shape that broadcasts, [1, 1, 1, C] for a colour.
      steps: gradients on the way.
    """

    def add(total: Array, share: Array) -> tuple[Array, None]:
        return total + saliency(apply, baseline + share * (image - baseline), target), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(image), (jnp.arange(steps) + 0.5) / steps)
    return (image - baseline) * total / steps


def heat(attribution: Array) -> Array:
    """How much each pixel matters, whatever the sign: [B, H, W, C] -> [B, H, W], added up over the channels."""
    return jnp.abs(attribution).sum(-1)


def logits_of(logits: Array, target: Array) -> Array:
    """The logit of each image's target: [B, K], [B] -> [B]."""
    return jnp.take_along_axis(logits, target[:, None], axis=-1)[:, 0]
