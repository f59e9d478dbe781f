"""Likely label errors, against the paper's definition and the answers of cleanlab."""

import numpy as np
import pytest

from jaxrec.errors import InputError
from jaxrec.metrics.calibration import softmax
from jaxrec.metrics.label_errors import label_errors, thresholds

# cleanlab 2.9.0: find_label_issues(label, probability, filter_by="confident_learning",
# return_indices_ranked_by="normalized_margin"), and get_confident_thresholds of the same.
CLEANLAB = [
    ([1], [0.617476, 0.649184, 0.688162, 0.783032]),
    ([58, 75, 11, 54, 24, 78, 21, 36, 73, 20, 51], [0.678981, 0.535712, 0.571022, 0.606532]),
    ([58, 55, 44, 78, 45, 75, 63, 41, 0], [0.607702, 0.60929, 0.55899, 0.564176]),
]


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities [80, 4], labels of which some are drawn anew, and the true ones."""
    rng = np.random.default_rng(seed)
    true = rng.integers(4, size=80)
    logits = rng.normal(size=(80, 4)) * 1.2 + 2.5 * np.eye(4)[true]
    return softmax(logits), np.where(rng.random(80) < 0.15, rng.integers(4, size=80), true), true


@pytest.mark.parametrize("seed", range(3))
def test_the_errors_and_their_order_are_those_of_cleanlab(seed):
    probability, label, _ = drawn(seed)
    places, levels = CLEANLAB[seed]
    assert label_errors(probability, label)[0].tolist() == places
    np.testing.assert_allclose(thresholds(probability, label), levels, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_class_that_an_error_seems_to_be_of_is_the_most_probable_that_reaches_its_threshold(seed):
    probability, label, _ = drawn(seed)
    levels = [probability[label == own, own].mean() for own in range(4)]
    for place, seems in zip(*label_errors(probability, label), strict=True):
        reached = [own for own in range(4) if probability[place, own] >= levels[own]]
        assert seems == max(reached, key=lambda own: probability[place, own]) != label[place]
        assert probability[place].argmax() != label[place]


def test_what_is_flipped_is_found_where_a_network_is_sure():
    true = np.arange(300) % 3
    label = true.copy()
    label[::50] = (true[::50] + 1) % 3
    places, seems = label_errors(np.eye(3)[true] * 0.7 + 0.1, label)
    np.testing.assert_array_equal(np.sort(places), np.arange(0, 300, 50))
    np.testing.assert_array_equal(seems, true[places])


def test_a_class_that_is_nobodys_label_is_nobodys_true_class():
    probability = np.tile([[0.1, 0.2, 0.7]], (4, 1))
    places, _ = label_errors(probability, np.array([0, 0, 1, 1]))
    assert thresholds(probability, np.array([0, 0, 1, 1]))[2] == np.inf
    assert 2 not in label_errors(probability, np.array([0, 0, 1, 1]))[1]
    assert set(places) <= {0, 1}  # each reaches class 1's threshold, which is 0.2


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"\(4, 3\) and \(3,\)"):
        label_errors(np.ones((4, 3)), np.zeros(3, int))
