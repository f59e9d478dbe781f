"""Scaling of images against numpy."""

import jax
import numpy as np
import pytest

from jaxrec.data import transforms
from jaxrec.errors import InputError


def random_images(dtype: str, examples: int = 5) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (examples, 3, 4, 2), np.uint8)
    image[..., 1] //= 3  # so that the channels differ
    return image if dtype == "uint8" else (image / 255).astype(np.float32)


def test_unit_range_of_bytes():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    batch = jax.jit(transforms.unit_range)({"image": image, "label": np.zeros(1)})
    assert batch["image"].dtype == np.float32
    np.testing.assert_allclose(batch["image"], image / 255, rtol=1e-6)
    assert (batch["image"].min(), batch["image"].max()) == (0, 1)
    assert set(batch) == {"image", "label"}


def test_unit_range_leaves_floats_alone():
    image = np.array([[[[-3.0, 0.5, 700.0]]]], np.float32)
    np.testing.assert_array_equal(transforms.unit_range({"image": image})["image"], image)


@pytest.mark.parametrize("examples", [5, 2500])  # 2500 are summed in parts
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_moments(dtype, examples):
    image = random_images(dtype, examples)
    mean, std = transforms.moments(image)
    assert (mean.dtype, std.dtype, mean.shape, std.shape) == (np.float32, np.float32, (2,), (2,))
    pixels = image.astype(np.float64) / (255 if dtype == "uint8" else 1)
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, pixels.std((0, 1, 2)), rtol=1e-6)


def test_moments_of_floats_far_from_zero():
    """A deviation small beside the mean is lost where the squares are summed in float32."""
    image = np.random.default_rng(0).normal(100, 1, (500, 8, 8, 1)).astype(np.float32)
    mean, std = transforms.moments(image)
    np.testing.assert_allclose(mean, image.mean(dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(std, image.std(dtype=np.float64), rtol=1e-5)


def test_moments_of_a_constant_channel():
    mean, std = transforms.moments(np.full((3, 2, 2, 1), 51, np.uint8))
    np.testing.assert_allclose(mean, 0.2, rtol=1e-6)
    np.testing.assert_array_equal(std, 1)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_standardise(dtype):
    image = random_images(dtype)
    mean, std = transforms.moments(image)
    result = jax.jit(transforms.standardise(mean, std))({"image": image, "label": np.zeros(5)})
    pixels = image.astype(np.float64) / (255 if dtype == "uint8" else 1)
    expected = (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    assert result["image"].dtype == np.float32
    np.testing.assert_allclose(result["image"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result["image"].mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(result["image"].std((0, 1, 2)), 1, rtol=1e-4)


def darken(image, key):
    """An augmentation that shows its key."""
    return image * jax.random.uniform(key)


def rows_of(ids, epoch, seed=5):
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (9, 4, 4, 1), np.uint8)
    seeds = np.full(len(ids), seed, np.uint32)
    return {"image": images[ids], "id": np.asarray(ids), "epoch": np.full(len(ids), epoch), "seed": seeds}


def test_an_augmented_image_follows_from_seed_epoch_and_example_alone():
    change = jax.jit(transforms.augmented([darken, darken]))
    whole = change(rows_of(range(9), 2))["image"]
    some = change(rows_of([7, 0, 3], 2))["image"]
    np.testing.assert_array_equal(some, whole[np.array([7, 0, 3])])
    assert len({float(value) for value in whole.max((1, 2, 3))}) == 9  # each by a key of its own
    assert (change(rows_of(range(9), 3))["image"] != whole).any()
    assert (change(rows_of(range(9), 2, seed=6))["image"] != whole).any()


def test_each_function_draws_for_itself_and_the_mix_comes_last():
    once, twice = (transforms.augmented([darken] * times)(rows_of([1], 0))["image"] for times in (1, 2))
    start = transforms.unit_range(rows_of([1], 0))["image"]
    assert float((once / start).max()) ** 2 != pytest.approx(float((twice / start).max()), rel=1e-3)

    def mix(batch, keys):
        return {**batch, "keys": keys, "seen": batch["image"]}

    batch = transforms.augmented([darken], mix)(rows_of([1, 2], 0))
    np.testing.assert_array_equal(batch["seen"][:1], once)
    assert batch["keys"].shape == (2,)


def test_an_alternating_flip_shows_both_sides_in_any_two_epochs():
    change = jax.jit(transforms.alternating_flip)
    stored = rows_of(range(9), 0)["image"]
    epochs = np.stack([change(rows_of(range(9), epoch))["image"] for epoch in range(4)])
    np.testing.assert_array_equal(epochs[::2], epochs[[0, 0]])
    np.testing.assert_array_equal(epochs[1::2], epochs[::2, :, :, ::-1])
    as_stored = (epochs[0] == stored).all((1, 2, 3))
    np.testing.assert_array_equal(epochs[0], np.where(as_stored[:, None, None, None], stored, stored[:, :, ::-1]))
    assert 0 < as_stored.sum() < 9  # half of them begin with the other side
    straddling = {**rows_of([3, 3], 0), "epoch": np.array([0, 1])}
    np.testing.assert_array_equal(change(straddling)["image"], epochs[:2, 3])
    np.testing.assert_array_equal(change(rows_of([7, 0], 0))["image"], epochs[0, [7, 0]])


def test_an_alternating_flip_begins_with_either_side_equally_often():
    batch = {
        "image": np.tile(np.uint8([[[1], [2]]]), (2000, 1, 1, 1)),
        "id": np.arange(2000),
        "epoch": np.zeros(2000, int),
        "seed": np.ones(2000, np.uint32),
    }
    share = (transforms.alternating_flip(batch)["image"][:, 0, 0, 0] == 2).mean()
    assert abs(share - 0.5) < 4 * 0.5 / 2000**0.5


def test_a_chain_applies_in_order():
    first, second = (lambda batch: {"x": batch["x"] + 1}), (lambda batch: {"x": batch["x"] * 10})
    assert transforms.chain(first, second)({"x": 1}) == {"x": 20}
    assert transforms.chain()({"x": 1}) == {"x": 1}


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, bool])
def test_unscaled_images_are_refused_when_a_step_is_traced(dtype):
    with pytest.raises(InputError, match=f"reach the network as {np.dtype(dtype)}, unscaled") as caught:
        jax.eval_shape(transforms.check_scaled, jax.ShapeDtypeStruct((2, 4, 4, 1), dtype))
    message = str(caught.value)
    assert "\n" not in message
    assert "transform=unit_range or transform=standardise(*moments(image))" in message
    assert ('astype("uint8")' in message) == (dtype is not np.uint8)


def test_scaled_images_pass():
    image = random_images("uint8")
    for transform in (transforms.unit_range, transforms.standardise(*transforms.moments(image))):
        scaled = transform({"image": image})["image"]
        assert transforms.check_scaled(scaled) is scaled
    half = jax.numpy.ones((1, 2, 2, 1), jax.numpy.bfloat16)
    assert transforms.check_scaled(half) is half
