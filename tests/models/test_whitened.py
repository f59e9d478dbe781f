"""The network that whitens its input: what its fixed filters and its first kernels do."""

import jax
import numpy as np
import optax
import pytest
from flax import linen

from jaxrec import losses
from jaxrec.errors import InputError
from jaxrec.models import WhitenedCNN
from jaxrec.tasks.one_loss import from_loss


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Noise that is alike in neighbouring pixels and channels, as images are."""
    noise = np.random.default_rng(0).normal(size=(64, 10, 10, 3))
    smooth = noise[:, 1:, 1:] + noise[:, :-1, 1:] + noise[:, 1:, :-1] + noise[:, :-1, :-1]
    return (smooth + smooth.mean(-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def variables(images):
    model = WhitenedCNN(widths=(16, 20))
    return jax.jit(lambda image: model.init(jax.random.key(0), image, train=False))(images)


def test_filters_whiten_the_patches_they_were_made_of(images, variables):
    filters = np.asarray(variables["constants"]["whitening"], np.float64)  # [12, 24]
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), (1, 2))  # [B, H', W', C, 2, 2]
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 12).astype(np.float64)
    before, after = (rows.T @ rows / len(rows) for rows in (patches, patches @ filters[:, :12]))
    assert np.abs(before - np.diag(np.diag(before))).max() > 1
    np.testing.assert_allclose(after, np.eye(12), atol=5e-3)
    np.testing.assert_array_equal(filters[:, 12:], -filters[:, :12])


def test_kernels_copy_their_input_to_the_first_outputs(variables):
    kernel = variables["params"]["Conv_0"]["kernel"]  # [3, 3, 24, 16]: fewer outputs than inputs
    expected = np.zeros((3, 3, 24, 16))
    expected[1, 1, range(16), range(16)] = 1
    np.testing.assert_array_equal(kernel, expected)
    kernel = np.asarray(variables["params"]["Conv_2"]["kernel"])  # [3, 3, 16, 20]
    expected = np.zeros((3, 3, 16, 16))
    expected[1, 1, range(16), range(16)] = 1
    np.testing.assert_array_equal(kernel[..., :16], expected)
    bound = 1 / np.sqrt(9 * 16)  # PyTorch's uniform distribution
    assert 0.9 * bound < np.abs(kernel[..., 16:]).max() <= bound


@pytest.mark.parametrize(("height", "width"), [(9, 9), (8, 8), (8, 9)])  # of 8 pixels the pools find 7 and 3
def test_output_is_that_of_whole_convolutions(images, variables, height, width):
    def group(x, *names):
        for name in names:
            kernel = params[f"Conv_{name}"]["kernel"]
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = linen.max_pool(x, (2, 2), (2, 2)) if name % 2 == 0 else x
            x = linen.gelu(x / np.sqrt(1 + 1e-5) + params[f"BatchNorm_{name}"]["bias"].reshape(1, 1, 1, -1))
        return x

    arrays, image = jax.tree.map(np.asarray, variables), images[:, :height, :width]
    params, filters = arrays["params"], arrays["constants"]["whitening"]
    windows = np.lib.stride_tricks.sliding_window_view(image, (2, 2), (1, 2)).transpose(0, 1, 2, 4, 5, 3)
    x = windows.reshape(*windows.shape[:3], 12) @ filters
    x = group(linen.gelu(x + params["bias"]), 0, 1, 2, 3)
    expected = x.max((1, 2)) @ params["Dense_0"]["kernel"] / 9
    model = WhitenedCNN(widths=(16, 20))
    logits = jax.jit(lambda variables, image: model.apply(variables, image, train=False))(variables, image)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_filters_are_not_trained(images):
    batch = {"image": images, "label": np.arange(64) % 10, "mask": np.ones(64, bool)}
    task = from_loss(WhitenedCNN(widths=(4,)), losses.softmax_cross_entropy, optax.sgd(0.1))
    state = task.init(jax.random.key(0), batch)
    after, _ = jax.jit(task.train_step)(state, batch, jax.random.key(1))
    np.testing.assert_array_equal(after.extra["constants"]["whitening"], state.extra["constants"]["whitening"])
    assert (np.asarray(after.params["bias"]) != np.asarray(state.params["bias"])).any()


def test_too_small_an_image_is_refused():
    with pytest.raises(InputError, match="3 groups leave nothing of an image of 8x8"):
        jax.eval_shape(
            lambda image: WhitenedCNN().init(jax.random.key(0), image, train=False), np.zeros((1, 8, 8, 3), np.float32)
        )
