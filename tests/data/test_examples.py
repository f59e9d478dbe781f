"""What lies on the images of a batch goes through the transforms with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import augment
from jaxrec.augment import geometry
from jaxrec.data import transforms
from jaxrec.errors import InputError

ROWS, HEIGHT, WIDTH = 6, 8, 10


def batch_of_rectangles(epoch: int = 0) -> dict[str, np.ndarray]:
    """One white rectangle in each image, its class and its box, the second of two."""
    mask, boxes = np.zeros((ROWS, HEIGHT, WIDTH), np.int32), np.zeros((ROWS, 2, 4), np.float32)
    for row in range(ROWS):
        mask[row, 1 : 3 + row, 2:5] = row + 1
        boxes[row, 1] = 1 / HEIGHT, 2 / WIDTH, (3 + row) / HEIGHT, 5 / WIDTH
    image = np.uint8(255) * (mask > 0).astype(np.uint8)[..., None]
    rows = {"id": np.arange(ROWS), "epoch": np.full(ROWS, epoch), "seed": np.full(ROWS, 3, np.uint32)}
    return {"image": image, "segmentation_mask": mask, "boxes": boxes, "label": np.arange(ROWS), **rows}


def assert_together(batch: dict[str, jax.Array]) -> None:
    """White pixels, their class and their box are in one place."""
    for row, (image, mask, boxes) in enumerate(
        zip(batch["image"], batch["segmentation_mask"], batch["boxes"], strict=True)
    ):
        np.testing.assert_array_equal(mask, np.where(image[..., 0] > 0, row + 1, 0))
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert len(rows)
        found = [rows[0] / HEIGHT, columns[0] / WIDTH, (rows[-1] + 1) / HEIGHT, (columns[-1] + 1) / WIDTH]
        np.testing.assert_allclose(boxes, [[0, 0, 0, 0], found], atol=1e-6)


def test_an_augmented_batch_keeps_together_what_belongs_together():
    """Whatever else the functions do in between, and as a config makes them."""
    functions = [
        functools.partial(augment.random_crop, padding=1),
        functools.partial(augment.gaussian_noise, std=1e-9),
        functools.partial(augment.random_flip, probability=0.5),
        lambda example, key: augment.random_translation(example, key, share=0.1),
    ]
    before = batch_of_rectangles()
    after = jax.jit(transforms.augmented(functions))(before)
    after["image"] = np.rint(after["image"])
    assert_together(after)
    assert (np.asarray(after["segmentation_mask"]) != before["segmentation_mask"]).any((1, 2)).sum() >= ROWS - 1
    np.testing.assert_array_equal(after["label"], before["label"])
    bare = {name: value for name, value in before.items() if name not in geometry.ON_IMAGE}
    without = jax.jit(transforms.augmented(functions))(bare)
    np.testing.assert_array_equal(np.rint(without["image"]), after["image"])
    assert set(without) == set(bare)


@pytest.mark.parametrize("function", [augment.color_jitter, augment.cutout, lambda image, key: 1 - image])
def test_what_takes_an_image_changes_the_image_alone(function):
    before = batch_of_rectangles()
    after = transforms.augmented([function])(before)
    for name in ("segmentation_mask", "boxes"):
        np.testing.assert_array_equal(after[name], before[name])


def test_a_move_of_ones_own_takes_a_few_lines():
    """One that uses what is there, and one that is written out."""

    def random_upside_down(example, key):
        sign = jax.random.rademacher(key, (), jnp.float32)
        return geometry.affine(example, ((sign, 0.0), (0.0, 1.0)))

    def upside_down(example, key):
        del key
        top, left, bottom, right = jnp.moveaxis(example["boxes"], -1, 0)
        boxes = jnp.stack([1 - bottom, left, 1 - top, right], -1) * (bottom > top)[:, None]
        return {
            "image": example["image"][::-1],
            "segmentation_mask": example["segmentation_mask"][::-1],
            "boxes": boxes,
        }

    before = batch_of_rectangles()
    for function in (random_upside_down, upside_down):
        after = jax.jit(transforms.augmented([function]))(before)
        assert_together(after)
        turned = (np.asarray(after["segmentation_mask"]) == before["segmentation_mask"][:, ::-1]).all((1, 2))
        assert turned.any()
    assert turned.all()


def test_a_move_that_hides_behind_an_image_is_refused_where_something_would_stay_behind():
    change = transforms.augmented([lambda image, key: augment.random_crop(image, key, padding=2)])
    batch = batch_of_rectangles()
    with pytest.raises(InputError, match="leaves segmentation_mask and boxes where they are: call its first argument"):
        change(batch)
    del batch["segmentation_mask"], batch["boxes"]
    assert change(batch)["image"].shape == (ROWS, HEIGHT, WIDTH, 1)


@pytest.mark.parametrize("result", [lambda example: example["image"], lambda example: {"image": example["image"]}])
def test_a_function_of_an_example_returns_one(result):
    with pytest.raises(InputError, match="has to return one, a dictionary of image, segmentation_mask, boxes"):
        transforms.augmented([lambda example, key: result(example)])(batch_of_rectangles())


def test_an_alternating_flip_turns_what_lies_on_an_image():
    change = jax.jit(transforms.alternating_flip)
    first, second = change(batch_of_rectangles(0)), change(batch_of_rectangles(1))
    assert_together(first)
    assert_together(second)
    np.testing.assert_array_equal(first["segmentation_mask"], second["segmentation_mask"][:, :, ::-1])
    stored = batch_of_rectangles()["boxes"]
    assert 0 < (np.asarray(first["boxes"]) == stored).all((1, 2)).sum() < ROWS  # the side that comes first is drawn


def test_what_lies_on_a_corrupted_image_stays_on_its_target():
    before = batch_of_rectangles()
    after = transforms.corrupted([augment.random_crop])(before)
    assert (after["image"] != after["target"]).any()
    assert_together(after | {"image": after["target"]})
    np.testing.assert_array_equal(after["boxes"], before["boxes"])
