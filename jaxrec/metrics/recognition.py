"""What a recogniser is judged by, exact over a split: it is computed from all predictions, which merge."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrec.errors import InputError, described
from jaxrec.metrics.calibration import reliability, softmax
from jaxrec.metrics.metric import concatenate, gather
from jaxrec.metrics.scores import area_under_roc, mean_of_known, precision_recall_f1, rankings
from jaxrec.types import Array, Batch


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
        return gather(self, axis)

    @classmethod
    def merge(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Puts the rows together."""
        return concatenate(parts)

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

        Raises:
          InputError: a label is of no class.
        """
        logits, label = (np.asarray(values)[np.asarray(self.mask)] for values in (self.logits, self.label))
        classes = logits.shape[-1]
        if not ((label >= 0) & (label < classes)).all():
            raise InputError(
                f"Labels reach from {label.min()} to {label.max()}, and logits of {classes} classes allow 0 to "
                f"{classes - 1}."
            )
        finite = np.isfinite(logits).all(-1)
        logits = np.where(finite[:, None], logits, 0)  # what this leads to is NaN or left out below
        predicted, probabilities = np.argmax(logits, axis=-1), softmax(logits)
        confusion = _confusion(label, predicted, classes)
        guessed, support = confusion.sum(axis=0), confusion.sum(axis=1)
        precision, recall, f1 = by_class = precision_recall_f1(np.diag(confusion), guessed, support)
        seen = (support > 0) | (guessed > 0)
        curves = rankings(probabilities, (label == index for index in range(classes)))  # one against the rest
        numbers = {
            "precision_macro": precision[seen].mean(),
            "recall_macro": recall[seen].mean(),
            "f1_macro": f1[seen].mean(),
            "f1_micro": np.mean(predicted == label),
            "f1_weighted": np.average(f1, weights=support),
            "auc": mean_of_known(map(area_under_roc, curves)),
            "ece": reliability(probabilities.max(-1), predicted == label).error,
        }
        if classes > 5:
            numbers["top_5"] = np.mean(_rank(logits, label) < 5)
        if not finite.all():
            numbers = dict.fromkeys(numbers, np.nan)
            by_class[:] = np.nan
            confusion = _confusion(label[finite], predicted[finite], classes)
        return {name: float(value) for name, value in numbers.items()} | {
            "confusion": confusion,
            "per_class": np.stack([*by_class, support], axis=-1),
        }


def predictions(logits: Array, batch: Batch) -> dict[str, Predictions]:
    """The statistics of recognition beyond means: for `from_loss(..., statistics=metrics.predictions)`.

    Args:
      logits: [B, K].
      batch: holds "label", [B] integers in [0, K), and "mask", [B].

    Raises:
      InputError: there is not one label for each example.
    """
    if batch["label"].shape != logits.shape[:1]:
        raise InputError(
            f"One label for each image is [{len(logits)}]; the batch's 'label' is {described(batch['label'])}. For "
            "several labels of an image use metrics.multilabel_predictions."
        )
    return {"": Predictions(logits.astype(jnp.float32), batch["label"], batch["mask"])}


def _confusion(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How often each label got each prediction: [K, K] int64."""
    return np.bincount(label * np.int64(classes) + predicted, minlength=classes**2).reshape(classes, classes)


def _rank(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """How many classes come before the label's, the best first and among equals the first: [N]."""
    own = np.take_along_axis(logits, label[:, None], axis=-1)
    earlier = np.arange(logits.shape[-1])[None] < label[:, None]
    return np.sum((logits > own) | ((logits == own) & earlier), axis=-1)
