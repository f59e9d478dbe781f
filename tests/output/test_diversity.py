"""Diversity and nearest distance, against scikit-learn's distances; where they appear."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from jaxrec.engine.loop import Moment
from jaxrec.output import diversity

RNG = np.random.default_rng(0)
IMAGES, OTHERS = RNG.uniform(size=(9, 4, 4, 3)).astype(np.float32), RNG.integers(0, 256, (20, 4, 4, 3), np.uint8)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return pairwise_distances(a.reshape(len(a), -1), b.reshape(len(b), -1)) / np.sqrt(48)


def test_diversity_is_the_mean_distance_of_different_images():
    every = distances(IMAGES, IMAGES)
    np.testing.assert_allclose(diversity.diversity(IMAGES), every[np.triu_indices(9, 1)].mean(), rtol=1e-4)
    halves = np.concatenate([np.zeros((2, 4, 4, 1)), np.ones((2, 4, 4, 1))])
    np.testing.assert_allclose(diversity.diversity(halves), 2 / 3, rtol=1e-5)  # 4 of 6 pairs are 1 apart
    assert diversity.diversity(np.repeat(IMAGES[:1], 5, axis=0)) < 1e-3
    assert diversity.diversity(IMAGES[:1]) == 0


def test_diversity_within_classes_knows_no_other_pairs():
    label = np.array([0, 1, 0, 1, 1, 2, 0, 0, 1])
    every = distances(IMAGES, IMAGES)
    same = [every[i, j] for i in range(9) for j in range(i) if label[i] == label[j]]
    np.testing.assert_allclose(diversity.diversity(IMAGES, label), np.mean(same), rtol=1e-4)
    assert diversity.diversity(IMAGES[label], label) < 1e-3  # one image for each class
    assert diversity.diversity(IMAGES[:3], np.arange(3)) == 0  # no two of a class


@pytest.mark.parametrize("block", [7, 4096])
def test_the_nearest_is_looked_for_among_all(block, monkeypatch):
    monkeypatch.setattr(diversity, "BLOCK", block)
    expected = distances(IMAGES, OTHERS / 255).min(1).mean()
    np.testing.assert_allclose(diversity.nearest(IMAGES, OTHERS), expected, rtol=1e-4)
    assert diversity.nearest(OTHERS[5:9], OTHERS) < 1e-3  # copies


def test_the_hook_puts_both_beside_those_of_real_images():
    hook = diversity.measure(lambda state: jnp.asarray(state), OTHERS, OTHERS[:4])
    moment = Moment(1, 1, 0, IMAGES, 1, 1.0, None, {"train/d_loss": 1.0}, [])
    hook(moment)
    assert moment.scalars == {
        "train/d_loss": 1.0,
        "samples/diversity": diversity.diversity(IMAGES),
        "samples/nearest": diversity.nearest(IMAGES, OTHERS),
        "real/diversity": diversity.diversity(OTHERS[:4]),
        "real/nearest": diversity.nearest(OTHERS[:4], OTHERS),
    }
