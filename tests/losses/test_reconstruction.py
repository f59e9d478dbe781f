"""Losses of reconstruction, fidelity and corruption, against numpy and closed forms."""

import functools

import jax
import numpy as np
import pytest
from scipy import special

from jaxrec import augment
from jaxrec.data import transforms
from jaxrec.losses import reconstruction

# Compiling takes most of the time here, and half of that is optimisation.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 5, 4, 2)).astype(np.float32)
IMAGE = RNG.uniform(size=(3, 5, 4, 2)).astype(np.float32)
OUTPUTS = {"logits": LOGITS, "code": RNG.normal(size=(3, 6)).astype(np.float32)}


def test_squared_error_is_summed_over_pixels():
    found = reconstruction.squared_error(OUTPUTS, {"image": IMAGE})
    expected = ((special.expit(LOGITS) - IMAGE) ** 2).reshape(3, -1).sum(1)
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["squared_error"], expected, rtol=1e-5)


def test_cross_entropy_is_summed_over_pixels_in_nats():
    found = reconstruction.pixel_cross_entropy(OUTPUTS, {"image": IMAGE})
    p = special.expit(LOGITS.astype(np.float64))
    expected = -(IMAGE * np.log(p) + (1 - IMAGE) * np.log(1 - p)).reshape(3, -1).sum(1)
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["squared_error"], ((p - IMAGE) ** 2).reshape(3, -1).sum(1), rtol=1e-5)
    # Its gradient at a logit is the error of the pixel, however sure the network is.
    sure = {**OUTPUTS, "logits": 30 * LOGITS}

    def total(logits):
        return reconstruction.pixel_cross_entropy({**sure, "logits": logits}, {"image": IMAGE})["loss"].sum()

    gradient = jax.grad(total)(sure["logits"])
    np.testing.assert_allclose(gradient, special.expit(sure["logits"]) - IMAGE, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", [reconstruction.squared_error, reconstruction.pixel_cross_entropy])
def test_sparsity_is_an_l1_penalty_on_the_code(loss):
    plain, sparse = (loss(OUTPUTS, {"image": IMAGE}, sparsity=strength) for strength in (0.0, 0.5))
    norm = np.abs(OUTPUTS["code"]).sum(1)
    np.testing.assert_allclose(sparse["code_l1"], norm, rtol=1e-6)
    np.testing.assert_allclose(sparse["loss"], plain["loss"] + 0.5 * norm, rtol=1e-6)
    np.testing.assert_array_equal(sparse["squared_error"], plain["squared_error"])


@pytest.mark.parametrize("loss", [reconstruction.squared_error, reconstruction.pixel_cross_entropy])
def test_the_target_is_what_counts_where_there_is_one(loss):
    corrupted = {"image": np.zeros_like(IMAGE), "target": IMAGE}
    np.testing.assert_array_equal(loss(OUTPUTS, corrupted)["loss"], loss(OUTPUTS, {"image": IMAGE})["loss"])


def numpy_ssim(a: np.ndarray, b: np.ndarray, size: int) -> float:
    """Wang et al. (2004) for one channel [H, W] of range 1, window by window."""
    distance = np.arange(size) - (size - 1) / 2
    weight = np.exp(-(distance**2) / (2 * 1.5**2))
    weight = np.outer(weight, weight) / weight.sum() ** 2
    values = []
    for y, x in np.ndindex(a.shape[0] - size + 1, a.shape[1] - size + 1):
        u, v = (image[y : y + size, x : x + size].astype(np.float64) for image in (a, b))
        mu_u, mu_v = (weight * u).sum(), (weight * v).sum()
        var_u, var_v = (weight * (u - mu_u) ** 2).sum(), (weight * (v - mu_v) ** 2).sum()
        both = (weight * (u - mu_u) * (v - mu_v)).sum()
        c1, c2 = 0.01**2, 0.03**2
        values.append((2 * mu_u * mu_v + c1) * (2 * both + c2) / ((mu_u**2 + mu_v**2 + c1) * (var_u + var_v + c2)))
    return np.mean(values)


@pytest.mark.parametrize(("height", "width", "size"), [(13, 14, 11), (8, 8, 8), (9, 12, 9)])
def test_structural_similarity(height, width, size):
    a = RNG.uniform(size=(2, height, width, 2)).astype(np.float32)
    b = np.clip(a + RNG.normal(size=a.shape, scale=0.2), 0, 1).astype(np.float32)
    found = jit(reconstruction.fidelity)(a, b)["ssim"]
    expected = [np.mean([numpy_ssim(a[n, ..., c], b[n, ..., c], size) for c in range(2)]) for n in range(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_error_per_pixel_and_signal_to_noise():
    """A difference of 0.1 everywhere is 20 decibels; an image is wholly like itself."""
    a = np.full((2, 12, 12, 1), 0.5, np.float32)
    found = jit(reconstruction.fidelity)(a, a + np.array([0.1, 0.01], np.float32).reshape(2, 1, 1, 1))
    np.testing.assert_allclose(found["squared_error_per_pixel"], [1e-2, 1e-4], rtol=1e-4)
    np.testing.assert_allclose(found["psnr"], [20, 40], rtol=1e-4)
    image = RNG.uniform(size=(1, 12, 12, 1)).astype(np.float32)
    same = jit(reconstruction.fidelity)(image, image)
    np.testing.assert_allclose(same["ssim"], 1, rtol=1e-5)
    assert np.isposinf(same["psnr"]).all()


def corrupt(batch: dict[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    batch = {**batch, "seed": np.full(len(batch["id"]), seed, np.uint32)}
    functions = [functools.partial(augment.gaussian_noise, std=0.2), functools.partial(augment.masking, share=0.3)]
    return jax.device_get(jit(transforms.corrupted(functions))(batch))


def test_corruption_is_of_the_input_alone():
    stored = RNG.integers(0, 256, (4, 6, 6, 1), np.uint8)
    batch = corrupt({"image": stored, "id": np.arange(4)})
    np.testing.assert_allclose(batch["target"], stored / np.float32(255), rtol=1e-6)
    assert (batch["image"] != batch["target"]).mean() > 0.5
    assert (batch["image"] == 0).mean() > 0.15  # masked


def test_corruption_follows_from_seed_epoch_and_example():
    image = np.full((4, 6, 6, 1), 0.5, np.float32)
    batch = {"image": image, "id": np.arange(4)}
    evaluated = corrupt(batch)["image"]
    np.testing.assert_array_equal(corrupt(batch)["image"], evaluated)
    reverse = {"image": image, "id": np.arange(4)[::-1]}
    np.testing.assert_array_equal(corrupt(reverse)["image"][::-1], evaluated)
    trained = [corrupt({**batch, "epoch": np.full(4, epoch)})["image"] for epoch in (0, 1)]
    others = [*trained, corrupt(batch, seed=1)["image"]]
    noise, batch = functools.partial(augment.gaussian_noise, std=0.2), {**batch, "seed": np.zeros(4, np.uint32)}
    others.append(jit(transforms.augmented([noise]))(batch)["image"])  # augmentation draws from its own stream
    assert all((other != evaluated).mean() > 0.5 for other in others)
    assert (trained[0] != trained[1]).mean() > 0.5
    corrupted_alike = jit(transforms.corrupted([noise]))(batch)["image"]
    assert (np.asarray(corrupted_alike) != others[-1]).mean() > 0.5
