"""Mixing in pairs against numpy and the moments of the Beta distribution."""

import functools

import jax
import numpy as np
import pytest

from jaxrec.augment import mix
from jaxrec.errors import InputError

# Compiling takes most of the time here, and half of that is optimisation.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

MIXES = ["mixup", "cutmix", "mixup_or_cutmix"]


def batch_of(count: int, shape: tuple[int, ...] = (6, 9, 3)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    image = (rng.integers(0, 256, (count, *shape)) / 255).astype(np.float32)
    return {"image": image, "label": np.arange(count, dtype=np.int32) % 7, "mask": np.ones(count, bool)}


@functools.cache
def compiled(name: str, **options):
    return jit(functools.partial(getattr(mix, name), **options))


def mixed(name: str, count: int, shape: tuple[int, ...] = (6, 9, 3), seed: int = 0, **options) -> dict[str, np.ndarray]:
    result = compiled(name, **options)(batch_of(count, shape), jax.random.split(jax.random.key(seed), count))
    return jax.tree.map(np.asarray, result)


def own_weight(result: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The weight of the own image at each pixel [H, W], by least squares over the channels."""
    difference = own.astype(float) - other
    return (difference * (result - other)).sum(-1) / np.square(difference).sum(-1)


@pytest.mark.parametrize("name", MIXES)
def test_what_is_added_and_what_stays(name):
    batch, result = batch_of(5), mixed(name, 5)
    assert set(result) == {"image", "label", "mask", "other_label", "share"}
    np.testing.assert_array_equal(result["label"], batch["label"])
    np.testing.assert_array_equal(result["mask"], batch["mask"])
    np.testing.assert_array_equal(result["other_label"], np.roll(batch["label"], -1))
    assert (result["image"].shape, result["image"].dtype) == (batch["image"].shape, np.float32)
    assert (result["share"].shape, result["share"].dtype) == ((5,), np.float32)
    assert 0 <= result["image"].min() <= result["image"].max() <= 1
    again = mixed(name, 5, seed=1)
    assert (again["share"] != result["share"]).any()


@pytest.mark.parametrize("name", MIXES)
def test_what_lies_on_images_is_not_mixed_but_refused(name):
    keys = jax.random.split(jax.random.key(0), 2)
    both = {**batch_of(2), "segmentation_mask": np.zeros((2, 6, 9), np.int32), "boxes": np.zeros((2, 1, 4), np.float32)}
    with pytest.raises(
        InputError, match=f"^{name} mixes .* the batch has segmentation_mask and boxes: leave {name} out"
    ):
        getattr(mix, name)(both, keys)
    with pytest.raises(InputError, match=f"^{name} mixes .* has no label: leave {name} out"):
        getattr(mix, name)({"image": both["image"]}, keys)


def test_mixup_is_a_weighted_mean_of_neighbours():
    batch, result = batch_of(40), mixed("mixup", 40, alpha=1.0)
    share = result["share"][:, None, None, None].astype(float)
    expected = share * batch["image"] + (1 - share) * np.roll(batch["image"], -1, axis=0)
    np.testing.assert_allclose(result["image"], expected, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_the_shares_of_mixup_are_beta_distributed(alpha):
    """The variance of Beta(a, a) is 1 / (4 (2a + 1))."""
    share = mixed("mixup", 4000, (1, 1, 1), alpha=alpha)["share"].astype(float)
    assert 0 <= share.min() <= share.max() <= 1
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(share.mean() - 0.5) < 5 * np.sqrt(variance / 4000)
    assert abs(share.var() - variance) < 0.05 * variance + 0.002


def test_cutmix_pastes_one_rectangle_and_counts_its_pixels():
    shape = (12, 17, 3)
    batch, result = batch_of(200, shape), mixed("cutmix", 200, shape)
    others = np.roll(batch["image"], -1, axis=0)
    sizes = []
    for image, own, other, share in zip(result["image"], batch["image"], others, result["share"], strict=True):
        pasted = (image == other).all(-1)
        np.testing.assert_array_equal(image[~pasted], own[~pasted])
        np.testing.assert_allclose(share, 1 - pasted.mean(), atol=1e-6)
        rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
        if len(rows):
            assert pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            inside = rows[0] > 0 and columns[0] > 0 and rows[-1] < 11 and columns[-1] < 16
            sizes += [(len(rows) / 12, len(columns) / 17)] if inside else []
    assert len(sizes) > 10  # what is not cut off has the image's proportions, but for rounding
    assert np.abs(np.diff(sizes, axis=1)).max() <= (1 / 12 + 1 / 17) / 2 + 1e-6


def test_the_area_of_cutmix():
    """Were nothing cut off at the edges, the share would be even; so the area is smaller by a known part.

    A side a of the image around a point that is even on [0, 1] covers a - a^2 / 4 on average, so the area is
    E[(a - a^2 / 4)^2] with a^2 even on [0, 1]: 1/2 - 1/2 * E[a^3] + E[a^4] / 16 = 1/2 - 1/5 + 1/48.
    """
    share = mixed("cutmix", 4000, (64, 64, 1))["share"].astype(float)
    assert abs(1 - share.mean() - (1 / 2 - 1 / 5 + 1 / 48)) < 5 * share.std() / np.sqrt(4000) + 0.01


def test_each_row_is_mixed_in_one_of_two_ways():
    batch = batch_of(400)
    result = mixed("mixup_or_cutmix", 400, cutmix_share=0.3)
    weights = [
        own_weight(image, own, other)
        for image, own, other in zip(result["image"], batch["image"], np.roll(batch["image"], -1, axis=0), strict=True)
    ]
    for weight, share in zip(weights, result["share"], strict=True):
        even, pasted = np.ptp(weight) < 1e-3, (np.minimum(np.abs(weight), np.abs(weight - 1)) < 1e-3).all()
        assert even or pasted
        np.testing.assert_allclose(weight.mean(), share, atol=1e-3)
    cut = sum(np.ptp(weight) > 1e-3 for weight in weights)
    assert 0.2 < cut / 400 < 0.35  # a rectangle may also be empty or everything
