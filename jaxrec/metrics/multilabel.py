"""What a recogniser of several labels for each image is judged by, exact over a split."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrec.errors import InputError, described
from jaxrec.metrics.metric import concatenate, gather
from jaxrec.metrics.scores import area_under_roc, average_precision, mean_of_known, precision_recall_f1, rankings
from jaxrec.types import Array, Batch


class MultilabelPredictions(NamedTuple):
    """What was predicted for each example, and what was right: merged by concatenation, as `Predictions` is."""

    logits: Array  # [B, K] float32
    predicted: Array  # [B, K] bool
    label: Array  # [B, K] of 0 and 1
    mask: Array  # [B], False where the row is padding

    def across(self, axis: str) -> "MultilabelPredictions":
        """Puts the rows of all devices together, in the order of the global batch."""
        return gather(self, axis)

    @classmethod
    def merge(cls, parts: Sequence["MultilabelPredictions"]) -> "MultilabelPredictions":
        """Puts the rows together."""
        return concatenate(parts)

    def compute(self) -> dict[str, float | np.ndarray]:
        """What a recogniser of several labels is judged by, over one example or more.

        Each name is scikit-learn's function of that name, of [N, K] arrays with zero_division = 0, but that classes
        without examples (for the area: or with nothing else) are left out of the means of average precision and area,
        which they have not. If any logit is not finite, as those of a network that has diverged, every number is NaN.

        Returns:
          `exact_match`: share of the examples of which all classes are right (subset accuracy).
          `hamming_loss`: share of the N K decisions that are wrong.
          `precision_macro`, `recall_macro`, `f1_macro`: means over the K classes; `..._micro`: of all N K decisions at
            once; `..._samples`: means over the examples.
          `mean_average_precision`: the mean over the classes of the area under the curve of precision and recall.
          `auc`: area under the ROC curve of each class, averaged over the classes.
          `per_class`: [K, 5], precision, recall, F1, number of examples and average precision.

        Raises:
          InputError: a label is neither 0 nor 1.
        """
        mask = np.asarray(self.mask)
        logits, predicted, label = (np.asarray(rows)[mask] for rows in (self.logits, self.predicted, self.label))
        actual = label == 1
        if not (actual | (label == 0)).all():
            raise InputError(f"Labels are 0 (absent) or 1 (present); one is {label[~actual & (label != 0)][0]}.")
        diverged = not np.isfinite(logits).all()
        right = predicted & actual

        def scores(axis: int | None) -> np.ndarray:
            return precision_recall_f1(*(decided.sum(axis) for decided in (right, predicted, actual)))

        by_class = scores(0)  # [3, K]
        curves = rankings(np.where(np.isfinite(logits), logits, 0), actual.T)
        precisions, areas = zip(*((average_precision(curve), area_under_roc(curve)) for curve in curves), strict=True)
        means = {"macro": by_class.mean(1), "micro": scores(None), "samples": scores(1).mean(1)}
        numbers = {
            "exact_match": np.mean((predicted == actual).all(-1)),
            "hamming_loss": np.mean(predicted != actual),
            **{f"precision_{over}": precision for over, (precision, _, _) in means.items()},
            **{f"recall_{over}": recall for over, (_, recall, _) in means.items()},
            **{f"f1_{over}": f1 for over, (_, _, f1) in means.items()},
            "mean_average_precision": mean_of_known(precisions),
            "auc": mean_of_known(areas),
        }
        per_class = np.stack([*by_class, actual.sum(0), precisions], axis=-1)
        if diverged:
            numbers = dict.fromkeys(numbers, np.nan)
            per_class[:, [0, 1, 2, 4]] = np.nan
        return {name: float(value) for name, value in numbers.items()} | {"per_class": per_class}


def multilabel_predictions(logits: Array, batch: Batch, *, threshold: float = 0.5) -> dict[str, MultilabelPredictions]:
    """The statistics of several labels beyond means: for `from_loss(..., statistics=metrics.multilabel_predictions)`.

    Args:
      logits: [B, K].
      batch: holds "label", [B, K] of 0 and 1, and "mask", [B].
      threshold: a class is predicted where its probability, sigmoid(logit), is above it.

    Raises:
      InputError: logits and labels differ in shape, or the threshold is not between 0 and 1.
    """
    if logits.shape != batch["label"].shape:
        raise InputError(
            f"Several labels for each image are [B, K] as the logits are, {list(logits.shape)}; the batch's 'label' is "
            f"{described(batch['label'])}. For one label use metrics.predictions."
        )
    if not 0 < threshold < 1:
        raise InputError(f"threshold = {threshold}: a probability above 0 and below 1 is wanted.")
    logits = logits.astype(jnp.float32)
    # Logits are compared, not probabilities: those of large logits round to 1.
    predicted = logits > math.log(threshold / (1 - threshold))
    return {"": MultilabelPredictions(logits, predicted, batch["label"], batch["mask"])}
