"""Labels that are likely wrong, by confident learning.

Source: Northcutt, Jiang and Chuang, 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of
Artificial Intelligence Research 70.
"""

import numpy as np

from jaxrec.errors import InputError


def thresholds(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """How sure of a class a network has to be: as it is on average where that is the label, [K] (equation 2).

    So a class of which it is seldom sure, or a loss that smooths labels, needs no other number. Of a class that is
    nobody's label it is infinite.

    Args:
      probability: [N, K], by networks that have not learned these examples.
      label: [N].
    """
    examples = np.bincount(label, minlength=probability.shape[1])
    total = np.bincount(label, np.take_along_axis(probability, label[:, None], 1)[:, 0], probability.shape[1])
    return np.where(examples > 0, total / np.maximum(examples, 1), np.inf)


def label_errors(probability: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The examples whose label is likely an error, the surest first, and the class that each seems to be of.

    An example counts for the most probable of the classes whose probability reaches their threshold (equation 1, the
    confident joint). It is an error where that is not its label, nor the label the most probable of all classes. The
    surer, the further its label lies below the most probable class.

    Args:
      probability: [N, K], by networks that have not learned these examples: out of fold, or of a test split. From
        those that have, it would find nothing.
      label: [N].

    Returns:
      Their places in [N], and classes.

    Raises:
      InputError: the shapes do not fit.
    """
    if probability.ndim != 2 or label.shape != probability.shape[:1]:
        raise InputError(f"Probabilities [N, K] and labels [N] are needed, got {probability.shape} and {label.shape}.")
    reached = probability >= thresholds(probability, label)[None]
    seems = np.where(reached, probability, -1).argmax(1)
    margin = probability.max(1) - np.take_along_axis(probability, label[:, None], 1)[:, 0]
    errors = np.flatnonzero(reached.any(1) & (seems != label) & (margin > 0))
    errors = errors[np.argsort(-margin[errors], kind="stable")]
    return errors, seems[errors]
