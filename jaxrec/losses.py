"""Losses of recognisers: pure functions of the model's outputs and the batch that return per-example values.

A loss is never averaged here: one function (`jaxrec.metrics.means`) averages under `batch["mask"]`, so evaluation on
a short last batch is exact, every value a loss returns is a metric, and a loss can be tested on plain arrays.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from jaxrec.types import Array, Batch, Rate


def softmax_cross_entropy(logits: Array, batch: Batch, *, label_smoothing: Rate = 0.0) -> Mapping[str, Array]:
    """Cross-entropy of softmax(logits) against the labels, in nats.

    With smoothing e the target is (1 - e) on the label plus e / K on every class (Szegedy et al., 2016, section 7).

    Args:
      logits: [B, K].
      batch: holds "label", [B] integers in [0, K).
      label_smoothing: e.

    Returns:
      {"loss": [B], "accuracy": [B]}.
    """
    classes = logits.shape[-1]
    targets = optax.smooth_labels(jax.nn.one_hot(batch["label"], classes), label_smoothing)  # [B, K]
    return {
        "loss": optax.softmax_cross_entropy(logits, targets),
        "accuracy": _correct(logits, batch["label"]),
    }


def mean_squared_error(logits: Array, batch: Batch) -> Mapping[str, Array]:
    """Mean over the classes of (logit - one-hot target) squared, the regression view of recognition.

    Args:
      logits: [B, K], used as they are, without a softmax.
      batch: holds "label", [B] integers in [0, K).

    Returns:
      {"loss": [B], "accuracy": [B]}.
    """
    targets = jax.nn.one_hot(batch["label"], logits.shape[-1])  # [B, K]
    return {
        "loss": jnp.mean(jnp.square(logits - targets), axis=-1),
        "accuracy": _correct(logits, batch["label"]),
    }


def _correct(logits: Array, label: Array) -> Array:
    """1.0 where the largest of [B, K] logits is the label's, else 0.0: [B]. NaN where a logit is not finite.

    argmax takes NaN for the largest, so that a network that has diverged would be right about every image of class 0.
    """
    return jnp.where(jnp.isfinite(logits).all(-1), jnp.argmax(logits, axis=-1) == label, jnp.nan)
