"""Losses of recognisers: pure functions of the model's outputs and the batch that return per-example values.

A loss is never averaged here: one function (`jaxrec.metrics.means`) averages under `batch["mask"]`, so evaluation on
a short last batch is exact, every value a loss returns is a metric, and a loss can be tested on plain arrays.

Most take one label for each image, "label" [B] in [0, K); `binary_cross_entropy` takes any number of them, "label"
[B, K] of 0 and 1. Labels that no class has are an InputError where their values are known (outside of jit); inside, the
values of such an example are NaN. Rows whose "mask" is False may hold anything.

Where a batch holds mixed examples (mixup, Zhang et al., 2018; CutMix, Yun et al., 2019), it says so by "other_label",
of the shape of "label", and "share", [B] in [0, 1]: the target is then share on "label" and 1 - share on "other_label".
Accuracy stays that of "label".
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrec.errors import InputError, described
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
    return _of_one_label(optax.softmax_cross_entropy(logits, targets), logits, batch)


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
    return _of_one_label(jnp.sum(optax.sigmoid_binary_cross_entropy(logits, targets), axis=-1), logits, batch)


def binary_cross_entropy(logits: Array, batch: Batch, *, label_smoothing: Rate = 0.0) -> Mapping[str, Array]:
    """Binary cross-entropy of sigmoid(logit) against each of an image's labels, averaged over the classes, in nats.

    The loss of several labels for each image (multi-label): any of the K classes, none, or all of them. The mean over
    the classes is what is usual there (PyTorch's MultiLabelSoftMarginLoss, Keras' BinaryCrossentropy);
    `sigmoid_cross_entropy` is the sum, of one label.

    Args:
      logits: [B, K].
      batch: holds "label", [B, K] of 0 and 1, of any number type.
      label_smoothing: e: the targets are e / 2 and 1 - e / 2.

    Returns:
      {"loss": [B], "accuracy": [B]}, the share of the K classes that the image is decided right on, where a class is
      predicted with a probability above 1/2: 1 less the Hamming loss. It is high where labels are few;
      `jaxrec.metrics.multilabel_predictions` has the numbers to judge by.
    """
    _check_several_labels(logits, batch)
    targets = _mixed(batch, lambda label: label.astype(jnp.float32))
    targets = (1 - label_smoothing) * targets + label_smoothing / 2
    known = _known(batch, lambda label: jnp.all((label == 0) | (label == 1), axis=-1))
    right = jnp.mean((logits > 0) == (batch["label"] == 1), axis=-1)
    return {
        "loss": jnp.where(known, jnp.mean(optax.sigmoid_binary_cross_entropy(logits, targets), axis=-1), jnp.nan),
        "accuracy": jnp.where(known & jnp.isfinite(logits).all(-1), right, jnp.nan),
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
    return _of_one_label(-jnp.sum(targets * rest**gamma * log_p, axis=-1), logits, batch)


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
    targets = _targets(logits, batch)
    best, second = jnp.split(jax.lax.top_k(logits, 2)[0], 2, axis=-1)  # each [B, 1]
    is_best = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
    best_other = jnp.where(is_best, second, best)  # [B, K]
    return _of_one_label(jnp.sum(targets * jax.nn.relu(margin + best_other - logits), axis=-1), logits, batch)


def mean_squared_error(logits: Array, batch: Batch) -> Mapping[str, Array]:
    """Mean over the classes of (logit - one-hot target) squared, the regression view of recognition.

    Args:
      logits: [B, K], used as they are, without a softmax.
      batch: holds "label", [B] integers in [0, K).

    Returns:
      {"loss": [B], "accuracy": [B]}.
    """
    targets = _targets(logits, batch)
    return _of_one_label(jnp.mean(jnp.square(logits - targets), axis=-1), logits, batch)


def _targets(logits: Array, batch: Batch, label_smoothing: float = 0.0) -> Array:
    """What each example should be, as shares of the classes that sum to 1: [B, K]. Mixed first, then smoothed."""
    _check_one_label(logits, batch)
    targets = _mixed(batch, lambda label: jax.nn.one_hot(label, logits.shape[-1]))
    return optax.smooth_labels(targets, label_smoothing)


def _of_one_label(loss: Array, logits: Array, batch: Batch) -> Mapping[str, Array]:
    """What every loss of one label returns.

    The accuracy is 1 where the largest logit is the label's, else 0. It is NaN where a logit is not finite: argmax
    takes NaN for the largest, so that a network that has diverged would be right about every image of class 0.
    """
    known = _known(batch, lambda label: (label >= 0) & (label < logits.shape[-1]))
    right = jnp.argmax(logits, axis=-1) == batch["label"]
    return {
        "loss": jnp.where(known, loss, jnp.nan),  # one_hot makes zeros of a label that no class has
        "accuracy": jnp.where(known & jnp.isfinite(logits).all(-1), right, jnp.nan),
    }


def _mixed(batch: Batch, target: Callable[[Array], Array]) -> Array:
    """The target [B, K] of each example; of a mixed one, of both its labels by their shares."""
    targets = target(batch["label"])
    if "other_label" in batch:
        share = batch["share"][:, None]
        targets = share * targets + (1 - share) * target(batch["other_label"])
    return targets


def _known(batch: Batch, known: Callable[[Array], Array]) -> Array:
    """Whether all labels of an example are such as there are: [B]."""
    return known(batch["label"]) & known(batch["other_label"]) if "other_label" in batch else known(batch["label"])


def _check_one_label(logits: Array, batch: Batch) -> None:
    """Raises InputError unless logits are [B, K] and labels [B] whole numbers, in [0, K) as far as values are known."""
    labels, classes = _labels(logits, batch), logits.shape[-1]

    def outside(label: np.ndarray) -> np.ndarray:
        return (label < 0) | (label >= classes)

    for name, label in labels.items():
        if getattr(label, "ndim", 0) == 1 and len(label) != len(logits):
            raise InputError(
                f"The network's outputs have {len(logits)} rows for {len(label)} labels. Images are [B, H, W, C]: "
                "of those without channels, image[..., None]."
            )
        if getattr(label, "shape", None) != logits.shape[:1]:
            raise InputError(
                f"This loss takes one label for each image, [{len(logits)}]; the batch's {name!r} is "
                f"{described(label)}. Of one-hot rows give label.argmax(-1); for several labels of an image use "
                "losses.binary_cross_entropy."
            )
        if not jnp.issubdtype(label.dtype, jnp.integer) and label.dtype != bool:
            raise InputError(
                f"This loss takes labels that are whole numbers; the batch's {name!r} is {described(label)}. "
                "Cast them by .astype('int32')."
            )
        wrong = _values(label, batch, outside)
        if wrong.size:
            raise InputError(
                f"The batch's {name!r} reaches {wrong.min() if wrong.min() < 0 else wrong.max()}, and logits of "
                f"{classes} classes allow 0 to {classes - 1}. Renumber the labels, or give the model more classes."
            )


def _check_several_labels(logits: Array, batch: Batch) -> None:
    """Raises InputError unless logits and labels are [B, K], and labels 0 and 1 as far as values are known."""
    for name, label in _labels(logits, batch).items():
        if getattr(label, "shape", None) != logits.shape:
            raise InputError(
                f"This loss takes several labels for each image, 0 or 1 for each class, {list(logits.shape)}; the "
                f"batch's {name!r} is {described(label)}. For one label of an image use losses.softmax_cross_entropy."
            )
        wrong = _values(label, batch, lambda label: (label != 0) & (label != 1))
        if wrong.size:
            raise InputError(f"The batch's {name!r} holds {wrong[0]}, where 0 (absent) and 1 (present) are allowed.")


def _labels(logits: Array, batch: Batch) -> dict[str, Array]:
    """The labels of the batch, two for mixed examples. Raises InputError where there are none, or no logits."""
    if len(getattr(logits, "shape", ())) != 2:
        raise InputError(f"This loss takes logits [B, K]; the model's outputs are {described(logits)}.")
    if "label" not in batch:
        raise InputError(f"This loss needs labels; the batch holds {', '.join(map(repr, batch)) or 'nothing'}.")
    return {name: batch[name] for name in ("label", "other_label") if name in batch}


def _values(label: Array, batch: Batch, wrong: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The labels that are `wrong`, without those of padding: [n]. None inside of jit, where no value is known."""
    mask = batch.get("mask", np.ones(len(label), bool))
    if isinstance(label, jax.core.Tracer) or isinstance(mask, jax.core.Tracer):
        return np.empty(0)
    label, mask = jax.device_get((label, mask))
    label = label[np.asarray(mask, bool)]
    return label[wrong(label)]
