"""Losses of recognisers: pure functions of the model's outputs and the batch that return per-example values.

A loss is never averaged here: one function (`jaxrec.metrics.means`) averages under `batch["mask"]`, so evaluation on
a short last batch is exact, every value a loss returns is a metric, and a loss can be tested on plain arrays.

Where a batch holds mixed examples (mixup, Zhang et al., 2018; CutMix, Yun et al., 2019), it says so by "other_label",
[B] integers, and "share", [B] in [0, 1]: the target is then share on "label" and 1 - share on "other_label". Accuracy
stays that of "label".
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from jaxrec.types import Array, Batch, NonNegative, Positive, Rate


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
    targets = _targets(logits, batch, label_smoothing)
    return {
        "loss": optax.softmax_cross_entropy(logits, targets),
        "accuracy": _correct(logits, batch["label"]),
    }


def sigmoid_cross_entropy(logits: Array, batch: Batch, *, label_smoothing: Rate = 0.0) -> Mapping[str, Array]:
    """Binary cross-entropy of sigmoid(logit) against the target of each class, summed over the classes, in nats.

    Each class is a question of its own (Beyer et al., 2020, "Are we done with ImageNet?"). The sum leaves the gradient
    at the label's logit as large as that of the softmax, whatever K; Wightman et al. (2021, "ResNet strikes back")
    average instead, which is 1 / K of this, under an optimizer that does not mind the scale.

    Args:
      logits: [B, K].
      batch: holds "label", [B] integers in [0, K).
      label_smoothing: as in `softmax_cross_entropy`.

    Returns:
      {"loss": [B], "accuracy": [B]}.
    """
    targets = _targets(logits, batch, label_smoothing)
    return {
        "loss": jnp.sum(optax.sigmoid_binary_cross_entropy(logits, targets), axis=-1),
        "accuracy": _correct(logits, batch["label"]),
    }


def focal(logits: Array, batch: Batch, *, gamma: NonNegative = 2.0, label_smoothing: Rate = 0.0) -> Mapping[str, Array]:
    """Cross-entropy in which what is recognised already counts less: -(1 - p)^gamma log p at the label's p.

    Lin et al. (2017, equation 4), over the softmax of all classes instead of their sigmoid of one, without their weight
    alpha of the classes. A target on several classes takes the mean of their terms. gamma 0 is the cross-entropy.

    Args:
      logits: [B, K].
      batch: holds "label", [B] integers in [0, K).
      gamma: how fast an example loses weight as its p grows.
      label_smoothing: as in `softmax_cross_entropy`.

    Returns:
      {"loss": [B], "accuracy": [B]}.
    """
    targets = _targets(logits, batch, label_smoothing)
    log_p = jax.nn.log_softmax(logits)  # [B, K]
    # Not quite 0: the derivative of 0^gamma is infinite for gamma below 1, and infinity * log 1 is NaN.
    rest = jnp.maximum(-jnp.expm1(log_p), jnp.finfo(log_p.dtype).tiny)
    return {
        "loss": -jnp.sum(targets * rest**gamma * log_p, axis=-1),
        "accuracy": _correct(logits, batch["label"]),
    }


def hinge(logits: Array, batch: Batch, *, margin: Positive = 1.0) -> Mapping[str, Array]:
    """How far the label's logit is from being `margin` above every other: max(0, margin + best other - own).

    The multi-class hinge of Crammer and Singer (2001). A target on several classes takes the mean of their losses.

    Args:
      logits: [B, K], K at least 2.
      batch: holds "label", [B] integers in [0, K).
      margin: in logits.

    Returns:
      {"loss": [B], "accuracy": [B]}.
    """
    best, second = jnp.split(jax.lax.top_k(logits, 2)[0], 2, axis=-1)  # each [B, 1]
    is_best = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
    best_other = jnp.where(is_best, second, best)  # [B, K]
    return {
        "loss": jnp.sum(_targets(logits, batch) * jax.nn.relu(margin + best_other - logits), axis=-1),
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
    return {
        "loss": jnp.mean(jnp.square(logits - _targets(logits, batch)), axis=-1),
        "accuracy": _correct(logits, batch["label"]),
    }


def _targets(logits: Array, batch: Batch, label_smoothing: float = 0.0) -> Array:
    """What each example should be, as shares of the classes that sum to 1: [B, K]. Mixed first, then smoothed."""
    classes = logits.shape[-1]
    targets = jax.nn.one_hot(batch["label"], classes)
    if "other_label" in batch:
        share = batch["share"][:, None]
        targets = share * targets + (1 - share) * jax.nn.one_hot(batch["other_label"], classes)
    return optax.smooth_labels(targets, label_smoothing)


def _correct(logits: Array, label: Array) -> Array:
    """1.0 where the largest of [B, K] logits is the label's, else 0.0: [B]. NaN where a logit is not finite.

    argmax takes NaN for the largest, so that a network that has diverged would be right about every image of class 0.
    """
    return jnp.where(jnp.isfinite(logits).all(-1), jnp.argmax(logits, axis=-1) == label, jnp.nan)
