"""What a variational autoencoder is measured by: its log likelihood by sampling, and how much of its code it uses."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxrec import metrics
from jaxrec.losses.variational import Likelihood, bits_per_dim, log_weights
from jaxrec.metrics import Metrics
from jaxrec.models.vae import sample
from jaxrec.tasks.average import averaged
from jaxrec.tasks.task import State
from jaxrec.types import Array, Batch, Count, Key

ACTIVE = 0.01  # variance of a unit's posterior mean over the data from which on it is active (Burda et al., 2016)


def negative_log_likelihood(
    model: nn.Module,
    likelihood: Likelihood,
    *,
    keys: Callable[[Batch], Key],
    conditional: bool = False,
    samples: Count = 5000,
    chunk: Count = 50,
) -> Callable[[State, Batch, Key], Metrics]:
    """Estimates -log p(x) by importance sampling from q(z|x): the bound of `iwae` with thousands of codes.

    It is an upper bound in expectation, the closer the more codes: Burda et al. (2016) and those after them take 5,000.

    Args:
      model: of `jaxrec.models.vae`; measured is the moving average where the state has one.
      likelihood: p(x|z).
      keys: batch -> [B], of the codes.
      conditional: whether the model is told the label: then it is -log p(x|label).
      samples: codes for each image.
      chunk: how many of them at a time. It bounds the memory, and changes no code.

    Returns:
      A measure: (state, batch, key) -> "nll" and "active_units", and for bytes "nll_bits_per_dim".
    """

    def importance_sampling(state: State, batch: Batch, key: Key) -> Metrics:
        del key
        apply = {"variables": averaged(state).variables, "train": False}
        label = batch["label"] if conditional else None
        mean, log_var = model.apply(**apply, image=batch["image"], label=label, method="encode")
        drawn = keys(batch)

        def add(total: Array, first: Array) -> tuple[Array, None]:
            index = first + jnp.arange(chunk)
            code = sample(mean, log_var, drawn, index)
            outputs = model.apply(**apply, code=code, label=label, method="decode")
            outputs = {"mean": mean, "log_var": log_var, "code": code, **outputs}
            weights = log_weights(likelihood, outputs, batch["image"])  # [B, chunk]
            weights = jnp.where(index[None] < samples, weights, -jnp.inf)
            return jnp.logaddexp(total, jax.nn.logsumexp(weights, axis=1)), None

        nothing = jnp.full(len(mean), -jnp.inf)
        total, _ = jax.lax.scan(add, nothing, jnp.arange(0, samples, chunk))
        nll = math.log(samples) - total
        bits = {f"nll_{name}": value for name, value in bits_per_dim(likelihood, nll, batch).items()}
        return {**metrics.means({"nll": nll, **bits}, batch["mask"]), **active_units({"mean": mean}, batch)}

    return importance_sampling


class Spread(NamedTuple):
    """How much each unit's posterior mean varies over the data: count, mean and summed squared deviations [Z]."""

    count: Array
    mean: Array
    squares: Array

    def across(self, axis: str) -> "Spread":
        """Merges over devices."""
        count = jax.lax.psum(self.count, axis)
        mean = jax.lax.psum(self.mean * self.count, axis) / jnp.maximum(count, 1)
        between = self.count * jnp.square(self.mean - mean)
        return Spread(count, mean, jax.lax.psum(self.squares + between, axis))

    @classmethod
    def merge(cls, parts: Sequence["Spread"]) -> "Spread":
        """Merges in float64 (Chan et al., 1983): squares of sums would cancel."""
        count, means, squares = (np.asarray(values, np.float64) for values in zip(*parts, strict=True))
        mean = np.average(means, axis=0, weights=count)
        return cls(count.sum(), mean, squares.sum(0) + count @ np.square(means - mean))

    def compute(self) -> dict[str, float]:
        """`active_units`: how many vary by more than ACTIVE; NaN where a mean is not finite."""
        variance = self.squares / self.count
        return {"active_units": float(np.sum(variance > ACTIVE)) if np.isfinite(variance).all() else math.nan}


def active_units(outputs: Mapping[str, Array], batch: Batch) -> dict[str, Spread]:
    """The statistic of `Spread`: for `jaxrec.tasks.one_loss.from_loss(..., statistics=active_units)`."""
    mask = batch["mask"][:, None]
    count = jnp.sum(batch["mask"], dtype=jnp.float32)
    mean = jnp.sum(jnp.where(mask, outputs["mean"], 0), axis=0) / jnp.maximum(count, 1)
    squares = jnp.sum(jnp.where(mask, jnp.square(outputs["mean"] - mean[None]), 0), axis=0)
    return {"": Spread(count, mean, squares)}


def collapse(active: float, latent: Count) -> str | None:
    """Says in plain language that the posterior has collapsed: that fewer than 1 in 20 units, or none, are active.

    Args:
      active: units, from `active_units`.
      latent: units in all.
    """
    if not active < max(1, latent / 20):
        return None
    return (
        f"posterior collapse: {active:.0f} of {latent} units of the code depend on the image (the variance of their "
        f"mean over the data is above {ACTIVE}); the decoder draws much the same from any code. Let the divergence "
        "rise more slowly (warmup), weigh it less (beta), or take a narrower likelihood or a weaker decoder."
    )
