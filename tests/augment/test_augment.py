"""Augmentation against numpy, scipy.ndimage, colorsys, Pillow and closed forms."""

import colorsys
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

from jaxrec import augment
from jaxrec.augment import policy
from jaxrec.augment.geometry import affine
from jaxrec.errors import InputError

# Compiling takes most of the time here, and half of that is optimisation.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# Arguments under which each function does something; a function that is not here fails the first test.
OPTIONS = {
    "binarise": {},
    "color_jitter": {"brightness": 0.2, "contrast": 0.4},
    "cutout": {"size": 3},
    "gaussian_noise": {"std": 0.1},
    "masking": {},
    "rand_augment": {"operations": 1},
    "random_crop": {"padding": 2},
    "random_erasing": {"probability": 0.9},
    "random_flip": {},
    "random_rotation": {},
    "random_translation": {"share": 0.3},
    "random_zoom": {},
    "salt_and_pepper": {},
}


def random_image(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).integers(0, 256, shape) / 255).astype(np.float32)


def keys(count: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


@functools.cache
def compiled(name: str, **options):
    return jit(functools.partial(getattr(augment, name), **options))


def many(name: str, image: np.ndarray, count: int, **options) -> np.ndarray:
    """The results for `count` keys, computed at once."""
    function = functools.partial(getattr(augment, name), **options)
    return np.asarray(jit(jax.vmap(function, (None, 0)))(image, keys(count)))


def test_each_name_that_a_config_may_use_is_tested_here():
    assert set(augment.__all__) == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_signature(name):
    what, key, *options = inspect.signature(getattr(augment, name)).parameters.values()
    assert what.name in ("image", "example")
    assert key.name == "key"
    assert all(option.kind is option.KEYWORD_ONLY and option.default is not option.empty for option in options)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_shape_and_range(name, channels):
    """Of images that are not square, a black and a white one among them; none depends on the others of its batch."""
    images = random_image(6, 9, 6, channels)
    images[1], images[2] = 0, 1
    function = jit(jax.vmap(functools.partial(getattr(augment, name), **OPTIONS[name])))
    result = np.asarray(function(images, keys(6)))
    assert (result.shape, result.dtype) == (images.shape, np.float32)
    assert result.min() >= 0
    assert result.max() <= 1
    np.testing.assert_array_equal(function(images[::-1], keys(6)[::-1]), result[::-1])
    assert (np.asarray(function(images, keys(6, seed=1))) != result).any()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_batch_gives_what_each_image_gives_alone(name):
    images = random_image(6, 9, 6, 3)
    function = functools.partial(getattr(augment, name), **OPTIONS[name])
    alone, batch = jit(function), jit(jax.vmap(function))(images, keys(6))
    for image, key, expected in zip(images, keys(6), batch, strict=True):
        np.testing.assert_allclose(alone(image, key), expected, atol=1e-5)


def windows(image: np.ndarray, down: int, right: int, mode: str) -> dict[bytes, int]:
    """Every part that a crop may cut out."""
    height, width, _ = image.shape
    padded = np.pad(image, ((down, down), (right, right), (0, 0)), {"zeros": "constant"}.get(mode, mode))
    places = [(i, j) for i in range(2 * down + 1) for j in range(2 * right + 1)]
    return {padded[i : i + height, j : j + width].tobytes(): 0 for i, j in places}


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize(
    ("name", "options"), [("random_crop", {"padding": 1}), ("random_translation", {"share": 0.25})]
)
def test_crops_are_parts_of_the_padded_image_equally_often(name, options, mode):
    image = random_image(4, 8, 3)
    counts = windows(image, 1, 1 if name == "random_crop" else 2, mode)
    for result in many(name, image, 1000, **options, mode=mode):
        counts[result.tobytes()] += 1  # a KeyError: no part of it
    expected = 1000 / len(counts)
    assert max(abs(count - expected) for count in counts.values()) < 5 * np.sqrt(expected)


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_flip(probability):
    image = random_image(4, 5, 3)
    flipped = 0
    for result in many("random_flip", image, 1000, probability=probability):
        flipped += (result == image[:, ::-1]).all()
        assert (result == image).all() or (result == image[:, ::-1]).all()
    assert abs(flipped - 1000 * probability) <= 5 * np.sqrt(1000 * probability * (1 - probability))


SCIPY_MODES = {"zeros": "grid-constant", "reflect": "mirror"}


def sampled(image: np.ndarray, matrix: np.ndarray, shift: np.ndarray, mode: str) -> np.ndarray:
    """`affine` by scipy, each channel on its own."""
    centre = (np.array(image.shape[:2]) - 1) / 2
    options = {"offset": centre + shift - matrix @ centre, "order": 1, "mode": SCIPY_MODES[mode]}
    channels = [
        ndimage.affine_transform(channel.astype(float), matrix, **options) for channel in np.moveaxis(image, 2, 0)
    ]
    return np.stack(channels, -1)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (7, 10, 3), (1, 6, 2)])
def test_affine(shape, mode):
    rng = np.random.default_rng(1)
    image = random_image(*shape)
    run = jit(lambda image, matrix, shift: affine(image, matrix, shift, mode=mode))
    for _ in range(5):
        matrix, shift = rng.normal(size=(2, 2)), rng.normal(size=2) * 3
        result = run(image, *(jax.tree.map(jnp.float32, tree) for tree in (matrix.tolist(), shift.tolist())))
        np.testing.assert_allclose(result, sampled(image, matrix, shift, mode), atol=2e-5)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_rotation_and_zoom(mode):
    image = random_image(9, 12, 3)
    for key in keys(4):
        angle = np.deg2rad(float(jax.random.uniform(key, (), minval=-40, maxval=40)))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        result = compiled("random_rotation", degrees=40.0, mode=mode)(image, key)
        np.testing.assert_allclose(result, sampled(image, turn, np.zeros(2), mode), atol=2e-5)
        factor = float(jax.random.uniform(key, (), minval=0.5, maxval=2.0))
        result = compiled("random_zoom", low=0.5, high=2.0, mode=mode)(image, key)
        np.testing.assert_allclose(result, sampled(image, np.eye(2) / factor, np.zeros(2), mode), atol=2e-5)


def test_a_rotation_by_nothing_and_a_zoom_by_one_change_nothing():
    image = random_image(7, 10, 3)
    np.testing.assert_array_equal(compiled("random_rotation", degrees=0.0)(image, keys(1)[0]), image)
    np.testing.assert_array_equal(compiled("random_zoom", low=1.0, high=1.0)(image, keys(1)[0]), image)


def test_zoom_in_enlarges():
    image = np.zeros((16, 16, 1), np.float32)
    image[6:10, 6:10] = 1
    area = [compiled("random_zoom", low=factor, high=factor)(image, keys(1)[0]).sum() for factor in (0.5, 1.0, 2.0)]
    np.testing.assert_allclose(area, [4, 16, 64], rtol=0.1)


def test_brightness_adds_one_number():
    image = random_image(6, 7, 1)
    deltas = []
    for result in many("color_jitter", image, 200, brightness=0.2):
        inside = (result > 0) & (result < 1)
        delta = (result - image)[inside].mean()
        np.testing.assert_allclose(result, np.clip(image + delta, 0, 1), atol=1e-6)
        deltas.append(delta)
    assert -0.2 <= min(deltas) < -0.18
    assert 0.18 < max(deltas) <= 0.2


def test_contrast_stretches_about_the_mean_of_each_channel():
    image = random_image(6, 7, 3) * 0.4 + 0.3  # nothing is cut off
    factors = []
    for result in many("color_jitter", image, 200, contrast=0.3):
        mean = image.mean((0, 1))
        factor = (result - mean).std() / (image - mean).std()
        np.testing.assert_allclose(result, mean + factor * (image - mean), atol=1e-5)
        factors.append(factor)
    assert 0.7 - 1e-4 <= min(factors) < 0.73
    assert 1.27 < max(factors) <= 1.3 + 1e-4


def test_saturation_and_hue_are_those_of_colorsys():
    image = random_image(4, 5, 3)
    image[0, 0], image[0, 1], image[0, 2] = 0, 1, (1, 0, 0)
    for key in keys(5):
        *_, saturation, hue = np.asarray(jax.random.uniform(key, (4,), minval=-1, maxval=1))
        result = compiled("color_jitter", saturation=0.6, hue=0.4)(image, key)
        for pixel, got in zip(image.reshape(-1, 3), result.reshape(-1, 3), strict=True):
            h, s, v = colorsys.rgb_to_hsv(*pixel.tolist())
            expected = colorsys.hsv_to_rgb((h + 0.4 * hue) % 1, min(1, s * (1 + 0.6 * saturation)), v)
            np.testing.assert_allclose(got, expected, atol=1e-5)


def test_colors_of_grey_images_are_refused():
    for strength in ({"hue": 0.1}, {"saturation": 0.1}):
        with pytest.raises(InputError, match=r"the image has 1 channel\(s\)\. Set both to 0"):
            augment.color_jitter(random_image(4, 4, 1), keys(1)[0], **strength)


def test_gaussian_noise():
    """Mean, deviation and shares beyond the ends are those of the normal distribution."""
    image = np.full((60, 60, 3), 0.5, np.float32)
    noise = np.asarray(compiled("gaussian_noise", std=0.1)(image, keys(1)[0])) - 0.5
    deviations = 0.1 / np.sqrt(noise.size)
    assert abs(noise.mean()) < 5 * deviations
    assert abs(noise.std() - 0.1) < 5 * deviations
    assert abs((np.abs(noise) < 0.1).mean() - 0.6827) < 5 * np.sqrt(0.2 / noise.size)
    black = np.asarray(compiled("gaussian_noise", std=0.1)(image * 0, keys(1)[0]))
    assert abs((black == 0).mean() - 0.5) < 5 * np.sqrt(0.25 / noise.size)


@pytest.mark.parametrize(
    ("name", "share", "black", "white"), [("salt_and_pepper", 0.1, 0.05, 0.05), ("masking", 0.25, 0.25, 0)]
)
def test_replaced_pixels(name, share, black, white):
    """So many pixels are black or white in all channels at once; the others stay."""
    image = random_image(80, 90, 3) * 0.8 + 0.1
    result = np.asarray(compiled(name, share=share)(image, keys(1)[0]))
    *replaced, same = ((result == value).all(-1) for value in (0, 1, image))
    assert (replaced[0] | replaced[1] | same).all()
    for found, expected in zip(replaced, (black, white), strict=True):
        assert abs(found.mean() - expected) <= 5 * np.sqrt(expected * (1 - expected) / found.size)


def box(changed: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height and width of the rectangle of changed pixels; fails where they are none."""
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    return rows[0], columns[0], len(rows), len(columns)


@pytest.mark.parametrize("size", [3, 4])
def test_cutout(size):
    """The covered squares are those around each pixel, equally often."""
    image = np.full((6, 5, 3), 0.5, np.float32)
    counts = {}
    for row in range(6):
        for column in range(5):
            covered = np.zeros((6, 5), bool)
            top, left = row - size // 2, column - size // 2
            covered[max(0, top) : top + size, max(0, left) : left + size] = True
            counts.setdefault(covered.tobytes(), [0, 0])[0] += 1 / 30  # squares with one cut may coincide
    results = many("cutout", image, 1500, size=size, value=0.25)
    for result in results:
        assert set(np.unique(result)) <= {0.25, 0.5}
        counts[(result[..., 0] == 0.25).tobytes()][1] += 1
    for share, count in counts.values():
        assert abs(count - 1500 * share) < 5 * np.sqrt(1500 * share)


def test_random_erasing():
    height, width = 20, 30
    image = np.full((height, width, 3), 2.0, np.float32)  # outside [0, 1], so that noise cannot be mistaken for it
    options = {"probability": 0.5, "low": 0.1, "high": 0.3, "aspect": 0.5}
    changed = [result for result in many("random_erasing", image, 1000, **options) if (result != image).any()]
    assert abs(len(changed) - 500) < 5 * np.sqrt(250)
    boxes = [box((result != 2).all(-1)) for result in changed]
    for _, _, rows, columns in boxes:  # half a pixel of rounding on each side
        assert (rows - 0.5) * (columns - 0.5) <= 0.3 * height * width
        assert (rows + 0.5) * (columns + 0.5) >= 0.1 * height * width
        assert (rows + 0.5) / (columns - 0.5) >= 0.5
        assert (rows - 0.5) / (columns + 0.5) <= 2
    tops, lefts, rows, columns = np.array(boxes).T
    assert (tops.min(), lefts.min()) == (0, 0)
    assert ((tops + rows).max(), (lefts + columns).max()) == (height, width)
    assert abs((rows > columns).mean() - 0.5) < 0.15
    values = np.concatenate([result[result != 2] for result in changed])
    assert values.min() >= 0
    assert values.max() < 1
    np.testing.assert_allclose([values.mean(), values.var()], [1 / 2, 1 / 12], rtol=0.01)


def test_random_erasing_with_zeros():
    results = many("random_erasing", random_image(8, 8, 3) + 0.1, 50, probability=0.9, fill="zeros")
    assert 0.5 < (results == 0).any((1, 2, 3)).mean() < 1
    assert (((results == 0).any(-1)) == (results == 0).all(-1)).all()


def test_a_rectangle_that_never_fits_leaves_the_image_alone():
    image = random_image(40, 2, 1)
    results = many("random_erasing", image, 20, probability=0.99, low=0.9, high=0.9, aspect=1.0)
    np.testing.assert_array_equal(results, np.broadcast_to(image, results.shape))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("random_zoom", {"low": 2.0}, "low = 2.0 is above high = 1.2"),
        ("random_erasing", {"low": 0.5}, "0 < low <= high <= 1"),
        ("random_erasing", {"high": 1.5}, "0 < low <= high <= 1"),
        ("random_erasing", {"aspect": 2.0}, "0 < aspect <= 1"),
        ("rand_augment", {"magnitude": 11}, "a number from 0 to 10"),
    ],
)
def test_arguments_that_do_not_fit_each_other(name, options, message):
    with pytest.raises(InputError, match=message):
        getattr(augment, name)(random_image(4, 4, 3), keys(1)[0], **options)


def test_rand_augment_of_two_channels_is_refused():
    with pytest.raises(InputError, match="these have 2"):
        augment.rand_augment(random_image(4, 4, 2), keys(1)[0])


@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_operations_are_those_of_pillow(channels):
    """At magnitude 5, to one or two steps of 255: Pillow rounds in between."""
    rng = np.random.default_rng(0)
    pixels = np.clip(rng.normal(110, 40, (40, 30, channels)), 5, 240).astype(np.uint8)
    picture = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
    expected = {
        policy.auto_contrast: ImageOps.autocontrast(picture),
        policy.equalise: ImageOps.equalize(picture),
        policy.solarise: ImageOps.solarize(picture, 128),
        policy.posterise: ImageOps.posterize(picture, 6),
        policy.color: ImageEnhance.Color(picture).enhance(1.45),
        policy.contrast: ImageEnhance.Contrast(picture).enhance(1.45),
        policy.brightness: ImageEnhance.Brightness(picture).enhance(1.45),
        policy.sharpness: ImageEnhance.Sharpness(picture).enhance(1.45),
    }
    assert {policy.identity, *expected} == set(policy.LOOKS)
    level = jnp.float32(0.5)
    for function, image in expected.items():
        result = jit(function)(pixels.astype(np.float32) / 255, level, level) * 255
        exact = function in (policy.equalise, policy.solarise, policy.posterise)
        np.testing.assert_allclose(
            result,
            np.asarray(image, np.float32).reshape(pixels.shape),
            atol=0.01 if exact else 2,
            err_msg=str(function),
        )


def test_operations_of_magnitude_zero_change_nothing():
    image, zero = jnp.asarray(random_image(12, 9, 3)), jnp.float32(0)
    for function in set(policy.LOOKS) - {policy.auto_contrast, policy.equalise}:
        np.testing.assert_allclose(function(image, zero, zero), image, atol=1e-6, err_msg=str(function))
    for function in policy.MOVES:
        *matrix, shift = function(zero, 12.0, 9.0)
        np.testing.assert_allclose(affine(image, matrix, shift), image, atol=1e-6, err_msg=str(function))


def test_moves_of_the_largest_magnitude():
    image = random_image(20, 40, 3)
    angle = np.deg2rad(30)
    cos, sin = np.cos(angle), np.sin(angle)
    expected = {
        policy.stay: (np.eye(2), (0, 0)),
        policy.rotate: (((cos, -sin), (sin, cos)), (0, 0)),
        policy.shear_x: (((1, 0), (0.3, 1)), (0, 0)),
        policy.shear_y: (((1, 0.3), (0, 1)), (0, 0)),
        policy.translate_x: (np.eye(2), (0, 18)),
        policy.translate_y: (np.eye(2), (9, 0)),
    }
    assert set(expected) == set(policy.MOVES)
    for function, (matrix, shift) in expected.items():
        *rows, moved = function(jnp.float32(1), 20.0, 40.0)
        result = affine(image, rows, moved)
        np.testing.assert_allclose(result, sampled(image, np.array(matrix), np.array(shift), "zeros"), atol=2e-5)


def test_rand_augment_draws_every_operation_equally_often():
    """One operation of magnitude 10 on an image that each of them changes in another way."""
    image = jnp.asarray(random_image(20, 20, 3) * 0.7 + 0.1)

    def moved(function, signed):
        *matrix, shift = function(signed, 20.0, 20.0)
        return affine(image, matrix, shift)

    def every(signed):
        looks = [function(image, jnp.float32(1), signed) for function in policy.LOOKS]
        return jnp.stack([*looks, *(moved(function, signed) for function in policy.MOVES[1:])])

    known = np.stack([jit(every)(jnp.float32(sign)) for sign in (1, -1)])  # [2, 14, H, W, C]
    counts = np.zeros(14)
    for result in many("rand_augment", image, 700, operations=1, magnitude=10.0):
        distances = np.abs(result - known).max((2, 3, 4)).min(0)
        assert distances.min() < 1e-4
        counts[distances.argmin()] += 1
    assert np.abs(counts - 50).max() < 5 * np.sqrt(50)
