"""Metrics that merge: each is a statistic of a batch that is joined over batches and devices and evaluated once.

So a metric over a split is exact, whatever the batch size, the device count or the padding of the last batch. What is
a mean merges by addition (`Mean`); what is not, such as F1 or the area under a curve, is computed from all predictions
of the split (`Predictions`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.types import Array, Batch

BINS = 15  # of the calibration error, as in Guo et al. (2017)


class Metric(Protocol):
    """A statistic that says itself how it merges. A NamedTuple of arrays, so that a compiled step can return it."""

    def across(self, axis: str) -> Self:
        """Merges it over the devices of a pmapped axis, inside the step."""

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """Merges those of several batches, on the host."""

    def compute(self) -> float | Mapping[str, float | np.ndarray]:
        """Its number, or its numbers and arrays by name."""


Metrics = Mapping[str, Metric]


class Mean(NamedTuple):
    """A mean as (total, count), both scalars: merged by addition, divided on the host."""

    total: Array
    count: Array

    def across(self, axis: str) -> "Mean":
        """Adds over devices."""
        return jax.lax.psum(self, axis)

    @classmethod
    def merge(cls, parts: Sequence["Mean"]) -> "Mean":
        """Adds in float64: a float32 running sum over an epoch would lose digits."""
        return cls(*np.sum(np.asarray(parts, np.float64), axis=0))

    def compute(self) -> float:
        """The mean; NaN of nothing."""
        return float(self.total) / float(self.count) if self.count else float("nan")


class Rows(NamedTuple):
    """Arrays with a row for each example, such as codes: merged by concatenation, in the order of the pass."""

    values: Mapping[str, Array]  # each [B, ...]
    mask: Array  # [B], False where the row is padding

    def across(self, axis: str) -> "Rows":
        """Puts the rows of all devices together, in the order of the global batch."""
        return jax.lax.all_gather(self, axis, tiled=True)

    @classmethod
    def merge(cls, parts: Sequence["Rows"]) -> "Rows":
        """Puts the rows together."""
        return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)

    def compute(self) -> dict[str, np.ndarray]:
        """Each array without padding, [N, ...]."""
        mask = np.asarray(self.mask)
        return {name: np.asarray(values)[mask] for name, values in self.values.items()}


class Predictions(NamedTuple):
    """What was predicted for each example, and what was right: merged by concatenation.

    It holds logits, not probabilities: float32 probabilities of classes that differ round to one number, so that who
    is best, or among the five best, would no longer be exact. A split takes 4 N K bytes on each device until the pass
    ends, and up to 30 N K on the host then: 3 MB for 10,000 images of 10 classes, 1.5 GB for ImageNet's validation.
    """

    logits: Array  # [B, K] float32
    label: Array  # [B]
    mask: Array  # [B], False where the row is padding

    def across(self, axis: str) -> "Predictions":
        """Puts the rows of all devices together, in the order of the global batch."""
        return jax.lax.all_gather(self, axis, tiled=True)

    @classmethod
    def merge(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Puts the rows together."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))

    def compute(self) -> dict[str, float | np.ndarray]:
        """What a recogniser is judged by, over one example or more.

        Probabilities are softmax(logits), whatever the loss. A class counts in the means called macro where it is a
        label or a prediction, as in scikit-learn; a precision, recall or F1 of 0 / 0 is 0. Among equal logits the first
        class is predicted. If any logit is not finite, as those of a network that has diverged, every number is NaN,
        and `confusion` leaves such examples out.

        Returns:
          `precision_macro`, `recall_macro`, `f1_macro`: means over the classes. `f1_micro`: of all decisions at once,
            which equals the accuracy here. `f1_weighted`: the mean weighted by how often a class is the label.
          `auc`: area under the ROC curve of each class against the rest, averaged over the classes that some examples
            have and some have not; NaN where there is no such class.
          `ece`: expected calibration error, the mean distance of confidence from accuracy over 15 equal bins of
            confidence, each weighted by its examples (Guo et al., 2017, equation 3).
          `top_5`: share of examples whose label is among the five best, where there are more than five classes.
          `confusion`: [K, K] counts, a row for each true class, a column for each predicted one.
          `per_class`: [K, 4], precision, recall, F1 and number of examples.
        """
        logits, label = (np.asarray(values)[np.asarray(self.mask)] for values in (self.logits, self.label))
        finite = np.isfinite(logits).all(-1)
        logits = np.where(finite[:, None], logits, 0)  # what this leads to is NaN or left out below
        classes, predicted = logits.shape[-1], np.argmax(logits, axis=-1)
        probabilities = _softmax(logits)
        confusion = _confusion(label, predicted, classes)
        precision, recall, f1, support = per_class = _by_class(confusion)
        seen = (support > 0) | (confusion.sum(axis=0) > 0)
        numbers = {
            "precision_macro": precision[seen].mean(),
            "recall_macro": recall[seen].mean(),
            "f1_macro": f1[seen].mean(),
            "f1_micro": np.mean(predicted == label),
            "f1_weighted": np.average(f1, weights=support),
            "auc": _mean_auc(probabilities, label),
            "ece": _calibration_error(probabilities.max(-1), predicted == label),
        }
        if classes > 5:
            numbers["top_5"] = np.mean(_rank(logits, label) < 5)
        if not finite.all():
            numbers = dict.fromkeys(numbers, np.nan)
            per_class[:3] = np.nan
            confusion = _confusion(label[finite], predicted[finite], classes)
        return {name: float(value) for name, value in numbers.items()} | {
            "confusion": confusion,
            "per_class": per_class.T,
        }


def means(values: Mapping[str, Array], mask: Array) -> dict[str, Mean]:
    """Sums per-example values [B] under a mask [B].

    Masks with `where`, never by multiplying: a padded row may hold anything, and 0 * NaN is NaN.
    """
    count = jnp.sum(mask, dtype=jnp.float32)
    return {name: Mean(jnp.sum(jnp.where(mask, value, 0), dtype=jnp.float32), count) for name, value in values.items()}


def predictions(logits: Array, batch: Batch) -> dict[str, Predictions]:
    """The statistics of recognition beyond means: for `jaxrec.task.from_loss(..., statistics=metrics.predictions)`.

    Args:
      logits: [B, K].
      batch: holds "label", [B] integers in [0, K), and "mask", [B].
    """
    return {"": Predictions(logits.astype(jnp.float32), batch["label"], batch["mask"])}


def compute(parts: Sequence[Metrics]) -> dict[str, float | np.ndarray]:
    """Fetches the statistics of several batches, merges them and turns each into its number.

    One that has several numbers is stored under the prefix of their names: "" or "ema_".
    """
    parts = jax.device_get(list(parts))
    results = {}
    for name, first in parts[0].items():
        result = type(first).merge([part[name] for part in parts]).compute()
        several = result if isinstance(result, Mapping) else {"": result}
        results.update({name + inner: value for inner, value in several.items()})
    return results


# Plain numpy, held against scikit-learn by the tests: its own functions take a second to import, then 0.1 s for the
# smallest split, and are asked for after each epoch.


def _softmax(logits: np.ndarray) -> np.ndarray:
    """In float64: [N, K]."""
    logits = logits.astype(np.float64)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _confusion(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How often each label got each prediction: [K, K] int64."""
    return np.bincount(label * np.int64(classes) + predicted, minlength=classes**2).reshape(classes, classes)


def _by_class(confusion: np.ndarray) -> np.ndarray:
    """Precision, recall, F1 and number of examples of each class: [4, K] float64; 0 / 0 is 0."""
    right, predicted, support = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(support, 1)
    return np.stack([precision, recall, 2 * right / np.maximum(predicted + support, 1), support])


def _rank(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """How many classes come before the label's, the best first and among equals the first: [N]."""
    own = np.take_along_axis(logits, label[:, None], axis=-1)
    earlier = np.arange(logits.shape[-1])[None] < label[:, None]
    return np.sum((logits > own) | ((logits == own) & earlier), axis=-1)


def _mean_auc(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Mean area under the ROC curve of one class against the rest, over the classes that have both sides.

    The area is the chance that an example of the class has a higher probability of it than another example has, where
    equals count half: the Mann-Whitney statistic, from ranks in which equals share their mean rank.
    """
    areas = []
    for index, inside in enumerate(np.bincount(label)):
        outside = len(label) - inside
        if inside and outside:
            _, place, equals = np.unique(probabilities[:, index], return_inverse=True, return_counts=True)
            ranks = (np.cumsum(equals) - (equals - 1) / 2)[place]
            areas.append((ranks[label == index].sum() - inside * (inside + 1) / 2) / (inside * outside))
    return np.mean(areas) if areas else np.nan


def _calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Expected calibration error over bins (m / BINS, (m + 1) / BINS] of confidence (Guo et al., 2017, equation 3)."""
    bins = np.ceil(confidence * BINS).astype(np.int64)
    return np.abs(np.bincount(bins, weights=correct - confidence)).sum() / len(confidence)
