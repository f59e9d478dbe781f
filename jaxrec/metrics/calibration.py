"""Whether a recogniser's probabilities can be believed, and the temperature that mends them (Guo et al., 2017)."""

from typing import NamedTuple

import numpy as np

BINS = 15  # of confidence, as in Guo et al. (2017)
TEMPERATURES = 0.01, 100.0  # the ends of what is looked through
HALVINGS = 50  # of that range, on a logarithmic scale: to 2e-14


class Reliability(NamedTuple):
    """What a recogniser said of its answers and what became of them, over equal bins (m / BINS, (m + 1) / BINS]."""

    confidence: np.ndarray  # [BINS], mean; 0 where a bin is empty
    accuracy: np.ndarray  # [BINS], likewise
    examples: np.ndarray  # [BINS] int64
    error: float  # the expected calibration error: |accuracy - confidence|, each bin weighted by its examples


def reliability(confidence: np.ndarray, correct: np.ndarray) -> Reliability:
    """The reliability diagram and its error (Guo et al., 2017, equation 3).

    Args:
      confidence: [N], the probability of the class that is predicted.
      correct: [N] booleans, whether it is the label.
    """
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    examples = np.bincount(place, minlength=BINS)
    said, right, apart = (
        np.bincount(place, weights=values, minlength=BINS) for values in (confidence, correct, correct - confidence)
    )
    return Reliability(
        said / np.maximum(examples, 1),
        right / np.maximum(examples, 1),
        examples,
        float(np.abs(apart).sum() / len(confidence)),
    )


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities [N, K] in float64, of logits [N, K] divided by a temperature."""
    logits = logits.astype(np.float64) / temperature
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def negative_log_likelihood(logits: np.ndarray, label: np.ndarray, temperature: float = 1.0) -> float:
    """The mean of -log p of the labels [N], in nats, under logits [N, K] divided by a temperature."""
    logits = logits.astype(np.float64) / temperature
    top = logits.max(-1)
    own = np.take_along_axis(logits, label[:, None], axis=-1)[:, 0]
    return float(np.mean(np.log(np.exp(logits - top[:, None]).sum(-1)) + top - own))


def best_temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """The temperature of the least negative log-likelihood: logits / T change no answer, only how sure it is.

    In 1 / T that is convex, and its slope is what the logits are expected to be less what the label's is: found by
    halving. Where every label has the largest logit, the surer the better, and T is the lower end of `TEMPERATURES`.

    Args:
      logits: [N, K].
      label: [N].
    """
    own = np.take_along_axis(logits, label[:, None], axis=-1)[:, 0].astype(np.float64)
    low, high = np.log(TEMPERATURES)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = (softmax(logits, np.exp(middle)) * logits).sum(-1)
        low, high = (low, middle) if np.mean(expected - own) <= 0 else (middle, high)
    return float(np.exp(high))
