"""Scores of counts and of rankings, for one label and for several.

Plain numpy, held against scikit-learn by the tests: its own functions take a second to import, then 0.1 s for the
smallest split, and are asked for after each epoch.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np


def precision_recall_f1(right: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 from counts; 0 / 0 is 0, as scikit-learn's zero_division = 0.

    Args:
      right: [...], how often what is predicted is so.
      predicted: [...], how often it is predicted.
      actual: [...], how often it is so.

    Returns:
      [3, ...] float64.
    """
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(actual, 1)
    return np.stack([precision, recall, 2 * right / np.maximum(predicted + actual, 1)])


class Ranking(NamedTuple):
    """How many examples inside and outside of a class have each distinct score, the lowest score first: [n] integers.

    Examples of equal scores are together, since no threshold parts them.
    """

    inside: np.ndarray
    outside: np.ndarray


def rankings(scores: np.ndarray, members: Iterable[np.ndarray]) -> Iterator[Ranking]:
    """The ranking of each class, one after the other: all of them would be 16 N K bytes.

    Args:
      scores: [N, K], the higher, the more likely is the class.
      members: K arrays [N] of booleans, whether each example is of the class.
    """
    for column, inside in zip(scores.T, members, strict=True):
        _, place, count = np.unique(column, return_inverse=True, return_counts=True)
        of_class = np.bincount(place[inside], minlength=len(count))
        yield Ranking(of_class, count - of_class)


def area_under_roc(ranking: Ranking) -> float:
    """The area under the ROC curve; NaN of a class that has no examples, or all of them.

    It is the chance that an example of the class has a higher score than another example has, where equals count half
    (the Mann-Whitney statistic).
    """
    inside, outside = ranking
    lower = np.cumsum(outside) - outside
    pairs = inside.sum() * outside.sum()
    return float(np.sum(inside * (lower + outside / 2)) / pairs) if pairs else np.nan


def average_precision(ranking: Ranking) -> float:
    """The mean over a class's examples of the precision at their scores (no interpolation); NaN where there are none.

    The sum of (R_n - R_n-1) P_n over all thresholds, as scikit-learn's average_precision_score.
    """
    inside, outside = (counts[::-1] for counts in ranking)  # from the highest score on
    right = np.cumsum(inside)
    return float(np.sum(inside * right / np.cumsum(inside + outside)) / right[-1]) if right[-1] else np.nan


def mean_of_known(values: Iterable[float]) -> float:
    """The mean over those that are not NaN; NaN where all are."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan
