"""Variational learning: likelihoods of images, bounds of their log likelihood, and its estimate by sampling.

Everything is in nats per image: log p(x|z) is summed over pixels and channels, the divergence of q(z|x) from the prior
over the units of the code; nothing is averaged over either. The outputs of a model are those of
`jaxrec.models.vae`: "mean" and "log_var" [B, Z], "code" [B, S, Z], "logits" [B, S, H, W, C], and "log_scale" []
where it is learned.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrec.types import Array, Batch, Loss, NonNegative, Positive


class Likelihood(NamedTuple):
    """What the pixels that a decoder draws say of an image."""

    # (logits [..., H, W, C], images [..., H, W, C], log_scale [] or None) -> log p(x|z) [...]
    log_prob: Callable[[Array, Array, Array | None], Array]
    mean: Callable[[Array], Array]  # logits -> the expected image, in [0, 1]
    scaled: bool = False  # whether it takes a learned log_scale
    discrete: bool = False  # whether x are bytes, so that log p is of 256 values and bits per dimension have a meaning


def bernoulli() -> Likelihood:
    """Independent pixels, 1 with probability sigmoid(logit): x * logit - log(1 + e^logit).

    A likelihood of images of zeros and ones. For grey values between it is a cross-entropy, which is a usual loss,
    but no number of it can be held against others.
    """

    def log_prob(logits: Array, image: Array, log_scale: Array | None) -> Array:
        del log_scale
        return _summed(image * logits - jax.nn.softplus(logits))

    return Likelihood(log_prob, jax.nn.sigmoid)


def gaussian(*, std: Positive | None = None) -> Likelihood:
    """Independent pixels around the decoder's, with one standard deviation: a density, without bits per dimension.

    Args:
      std: of images in [0, 1]; None: learned.
    """

    def log_prob(logits: Array, image: Array, log_scale: Array | None) -> Array:
        log_std = jnp.log(std) if std else log_scale
        distance = (image - logits) * jnp.exp(-log_std)
        return _summed(-0.5 * jnp.square(distance) - log_std - 0.5 * math.log(2 * math.pi))

    return Likelihood(log_prob, _within, scaled=std is None)


def discretised_logistic(*, scale: Positive | None = None) -> Likelihood:
    """Each byte's share of a logistic density around the decoder's pixel: Kingma et al. (2016, appendix A.2).

    The outermost of the 256 bins reach to infinity, so that the shares sum to 1.

    Args:
      scale: of the logistic density, of images in [0, 1]; None: learned.
    """

    def log_prob(logits: Array, image: Array, log_scale: Array | None) -> Array:
        log_s = jnp.log(scale) if scale else log_scale
        upper = (image + 0.5 / 255 - logits) * jnp.exp(-log_s)
        width = jnp.exp(-log_s) / 255
        lower = upper - width
        # sigmoid(upper) - sigmoid(lower) = sigmoid(upper) sigmoid(-lower) (1 - e^-width): nothing cancels.
        below, above = jax.nn.log_sigmoid(upper), jax.nn.log_sigmoid(-lower)
        inner = below + above + jnp.log(-jnp.expm1(-width))
        return _summed(jnp.where(image < 0.5 / 255, below, jnp.where(image > 1 - 0.5 / 255, above, inner)))

    return Likelihood(log_prob, _within, scaled=scale is None, discrete=True)


def elbo(likelihood: Likelihood, *, beta: NonNegative = 1.0, warmup: NonNegative = 0.0) -> Loss:
    """The evidence lower bound, its divergence in closed form (Kingma and Welling, 2014, appendix B).

    Args:
      likelihood: p(x|z).
      beta: weight of the divergence in the loss (Higgins et al., 2017).
      warmup: epochs over which that weight rises linearly from 0, epoch by epoch (Sønderby et al., 2016). Evaluations,
        whose batches have no "epoch", have the full weight.

    Returns:
      A loss whose values are "loss" = reconstruction + weight * kl, "reconstruction" = -log p(x|z), averaged over the
      codes, "kl" = KL(q(z|x) || p(z)), "elbo" = -(reconstruction + kl) whatever the weight, and for bytes
      "bits_per_dim" of that.
    """

    def loss(outputs: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
        values = _terms(likelihood, outputs, batch["image"])
        risen = jnp.minimum(1.0, batch["epoch"] / warmup) if warmup and "epoch" in batch else 1.0
        value = values["reconstruction"] + beta * risen * values["kl"]
        return {"loss": value, **values, **bits_per_dim(likelihood, -values["elbo"], batch)}

    return loss


def iwae(likelihood: Likelihood) -> Loss:
    """The importance weighted bound log(mean of the weights of S codes), Burda et al. (2016, equation 8).

    With one code it is the evidence lower bound with its divergence sampled.

    Returns:
      A loss whose values are "loss", minus the bound, and what `elbo` gives besides, of the same codes.
    """

    def loss(outputs: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
        weights = log_weights(likelihood, outputs, batch["image"])  # [B, S]
        bound = jax.nn.logsumexp(weights, axis=1) - math.log(weights.shape[1])
        terms = _terms(likelihood, outputs, batch["image"])
        return {"loss": -bound, **terms, **bits_per_dim(likelihood, -bound, batch)}

    return loss


def log_weights(likelihood: Likelihood, outputs: Mapping[str, Array], image: Array) -> Array:
    """log p(x|z) + log p(z) - log q(z|x), [B, S]; the mean of their exponentials over q is p(x)."""
    deviation = (outputs["code"] - outputs["mean"][:, None]) * jnp.exp(-outputs["log_var"] / 2)[:, None]
    powers = jnp.square(deviation) - jnp.square(outputs["code"]) + outputs["log_var"][:, None]
    return _log_prob(likelihood, outputs, image) + 0.5 * jnp.sum(powers, axis=-1)


def divergence(mean: Array, log_var: Array) -> Array:
    """KL(N(mean, e^log_var) || N(0, 1)), summed over the last axis."""
    return 0.5 * jnp.sum(jnp.square(mean) + jnp.exp(log_var) - 1 - log_var, axis=-1)


def _summed(values: Array) -> Array:
    """Over pixels and channels: [..., H, W, C] -> [...]."""
    # As a product with ones: on a CPU XLA computes a sum, and all that goes into it, number by number.
    flat = values.reshape(*values.shape[:-3], -1)
    return jnp.matmul(flat, jnp.ones(flat.shape[-1], flat.dtype), precision="highest")


def _within(image: Array) -> Array:
    return jnp.clip(image, 0, 1)


def _log_prob(likelihood: Likelihood, outputs: Mapping[str, Array], image: Array) -> Array:
    """log p(x|z), [B, S]."""
    return likelihood.log_prob(outputs["logits"], image[:, None], outputs.get("log_scale"))


def _terms(likelihood: Likelihood, outputs: Mapping[str, Array], image: Array) -> dict[str, Array]:
    """The two terms of the evidence lower bound and the bound, each [B]."""
    reconstruction = -jnp.mean(_log_prob(likelihood, outputs, image), axis=1)
    kl = divergence(outputs["mean"], outputs["log_var"])
    return {"elbo": -(reconstruction + kl), "reconstruction": reconstruction, "kl": kl}


def bits_per_dim(likelihood: Likelihood, nats: Array, batch: Batch) -> dict[str, Array]:
    """Nats per image as "bits_per_dim", where the likelihood is one of bytes."""
    dimensions = math.prod(batch["image"].shape[1:])
    return {"bits_per_dim": nats / (dimensions * math.log(2))} if likelihood.discrete else {}
