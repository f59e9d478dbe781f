"""What codes are worth: components against numpy's singular values, votes counted by hand, a map read back."""

import numpy as np
import pytest
from matplotlib import image as files

from jaxrec.metrics import probes


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Images of a few directions and little noise."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(90, 3)) @ rng.normal(size=(3, 20)) * 0.1 + rng.normal(size=(90, 20)) * 0.01 + 0.5
    return mixed.reshape(90, 5, 4, 1).astype(np.float32)


def test_principal_components_are_the_first_singular_vectors(pixels):
    train, other = pixels[:60], pixels[60:]
    pca = probes.PrincipalComponents(train, 2)
    mean = train.reshape(60, -1).astype(np.float64).mean(0)
    _, _, directions = np.linalg.svd(train.reshape(60, -1) - mean, full_matrices=False)
    centred = other.reshape(30, -1) - mean
    projected = centred @ directions[:2].T @ directions[:2]
    np.testing.assert_allclose(pca.reconstruct(other).reshape(30, -1), projected + mean, atol=1e-4)
    np.testing.assert_allclose(pca.squared_error(other), ((centred - projected) ** 2).sum(1).mean(), rtol=1e-3)
    assert pca.encode(other).shape == (30, 2)


def test_large_splits_are_projected_in_parts(pixels, monkeypatch):
    pca = probes.PrincipalComponents(pixels, 2)
    whole = pca.squared_error(pixels)
    monkeypatch.setattr(probes, "CHUNK", 7)
    np.testing.assert_allclose(pca.squared_error(pixels), whole, rtol=1e-6)


def test_no_more_components_than_images_or_pixels(pixels):
    assert probes.PrincipalComponents(pixels[:3], 8).encode(pixels).shape == (90, 3)
    assert probes.PrincipalComponents(pixels, 30).squared_error(pixels) < 1e-9


def test_votes_and_probe():
    """Of two classes as two clouds in a line, the vote of 3 neighbours by hand, and a border between the clouds."""
    code = {
        "train": np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0], [0.5]]),
        "test": np.array([[0.6], [11.5], [2.1], [6.5]]),
    }
    # 0.5 is labelled 1 amid zeros: among the 3 nearest of 0.6 are 0.5 (1), 1.0 (0) and 0.0 (0), so it stays 0.
    label = {"train": np.array([0, 0, 0, 1, 1, 1, 1]), "test": np.array([0, 1, 1, 1])}
    found = probes.accuracies(code, label, neighbours=3)
    assert set(found) == {"test"}
    assert found["test"]["knn_accuracy"] == 3 / 4  # 2.1 has the neighbours 2, 1 and 0.5
    # A line can only say 0 below the border and 1 above it: right of 0.6 and 11.5, and wrong of 2.1.
    assert found["test"]["probe_accuracy"] == 3 / 4


def test_the_probe_does_not_mind_the_scale_of_codes():
    rng = np.random.default_rng(0)
    label = {"train": np.arange(300) % 3, "test": np.arange(600) % 3}
    code = {split: np.eye(3)[rows] * 2 + rng.normal(size=(len(rows), 3)) for split, rows in label.items()}
    scaled = {split: rows * np.array([1e3, 1e-3, 1.0]) for split, rows in code.items()}
    one, other = (probes.accuracies(rows, label)["test"]["probe_accuracy"] for rows in (code, scaled))
    assert one == other
    # The best possible answer is the largest of the three.
    best = (code["test"].argmax(1) == label["test"]).mean()
    assert abs(one - best) <= 0.05
    shuffled = {**label, "test": rng.permutation(label["test"])}
    assert abs(probes.accuracies(code, shuffled)["test"]["probe_accuracy"] - 1 / 3) < 0.1


def test_there_is_nothing_to_tell_of_one_class():
    code = {"train": np.zeros((4, 2)), "validation": np.zeros((2, 2))}
    assert probes.accuracies(code, {"train": np.zeros(4), "validation": np.zeros(2)}) == {"validation": {}}


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_map_has_a_colour_for_each_class(tmp_path, size):
    rng = np.random.default_rng(0)
    label = np.arange(200) % 2
    code = rng.normal(size=(200, size)) + 8 * label[:, None]
    probes.draw_map(tmp_path / "map.png", {"code": code}, label, ["a", "b"])
    drawn = files.imread(tmp_path / "map.png")[..., :3]
    blue, orange = (31, 119, 180), (255, 127, 14)
    for color in (blue, orange):  # the dots are see-through, the frames of the names and the legend nearly not
        assert (np.abs(drawn - np.array(color) / 255).max(-1) < 0.3).sum() > 100
