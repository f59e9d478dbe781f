"""What lies on an image moves with it: masks against numpy, boxes against the extent of a moved rectangle."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

from jaxrec import augment
from jaxrec.augment import geometry
from jaxrec.errors import InputError

# Compiling takes most of the time here, and half of that is optimisation.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

HEIGHT, WIDTH = 10, 13  # of no power of two, so that shares of them round
BY_WHOLE_PIXELS = [
    ("random_crop", {"padding": 4}),
    ("random_crop", {"padding": 4, "mode": "reflect"}),
    ("random_translation", {"share": 0.6}),
    ("random_translation", {"share": 0.6, "mode": "reflect"}),
    ("random_flip", {}),
]
BETWEEN_PIXELS = [
    ("random_rotation", {"degrees": 90.0}),
    ("random_rotation", {"degrees": 90.0, "mode": "reflect"}),
    ("random_zoom", {"low": 0.5, "high": 3.0}),
    ("random_zoom", {"low": 0.5, "high": 3.0, "mode": "reflect"}),
]
seeds = strategies.integers(0, 2**32 - 1)


@functools.cache
def compiled(name: str, options: tuple = ()):
    return jit(functools.partial(getattr(augment, name), **dict(options)))


def run(name: str, options: dict, example, seed: int):
    return jax.tree.map(np.asarray, compiled(name, tuple(options.items()))(example, jax.random.key(seed)))


@strategies.composite
def rectangles(draw) -> tuple[int, int, int, int]:
    """Top, left, bottom, right, in pixels; at least two in height and width."""
    top, left = draw(strategies.integers(0, HEIGHT - 2)), draw(strategies.integers(0, WIDTH - 2))
    return top, left, draw(strategies.integers(top + 2, HEIGHT)), draw(strategies.integers(left + 2, WIDTH))


def solid(top: int, left: int, bottom: int, right: int) -> dict[str, np.ndarray]:
    """A white rectangle, its class and its box, the second of three; the others are none."""
    mask = np.zeros((HEIGHT, WIDTH), np.int32)
    mask[top:bottom, left:right] = 1
    boxes = np.zeros((3, 4), np.float32)
    boxes[1] = np.array([top, left, bottom, right]) / np.array([HEIGHT, WIDTH, HEIGHT, WIDTH])
    boxes[2] = 0.3, 0.7, 0.3, 0.9  # empty
    return {"image": mask[:, :, None].astype(np.float32), "segmentation_mask": mask, "boxes": boxes}


def in_pixels(box: np.ndarray) -> np.ndarray:
    return box * np.array([HEIGHT, WIDTH, HEIGHT, WIDTH])


def extent(mask: np.ndarray) -> np.ndarray:
    """Top, left, bottom, right of the pixels that are not 0, in pixels; zeros if there are none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1] if len(rows) else [0, 0, 0, 0])


def random_example(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "image": (rng.integers(0, 256, (HEIGHT, WIDTH, 3)) / 255).astype(np.float32),
        "segmentation_mask": rng.integers(1, 6, (HEIGHT, WIDTH)).astype(np.uint8),
        "boxes": np.array([[0.1, 0.2, 0.5, 0.6]], np.float32),
    }


@pytest.mark.parametrize(("name", "options"), [*BY_WHOLE_PIXELS, *BETWEEN_PIXELS, ("rand_augment", {"operations": 1})])
@hypothesis.settings(max_examples=5)
@hypothesis.given(seed=seeds)
def test_an_image_is_moved_as_if_nothing_lay_on_it(name, options, seed):
    """To the bit; and what lies on it keeps shape and type."""
    example = random_example()
    result = run(name, options, example, seed)
    np.testing.assert_array_equal(result["image"], run(name, options, example["image"], seed))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), result) == jax.tree.map(lambda x: (x.shape, x.dtype), example)
    alone = run(name, options, {"image": example["image"]}, seed)
    assert set(alone) == {"image"}


@pytest.mark.parametrize(("name", "down", "right"), [("random_crop", 4, 4), ("random_translation", 6, 8)])
@hypothesis.given(seed=seeds)
def test_the_place_of_a_crop_is_one_draw_of_two_whole_numbers(name, down, right, seed):
    """The key's bits lead to the same images for good: a resumed run shows what the unbroken one does."""
    options = dict(BY_WHOLE_PIXELS)[name] | {"mode": "zeros"}
    example = random_example()
    top, left = np.asarray(jax.random.randint(jax.random.key(seed), (2,), 0, jnp.array([2 * down + 1, 2 * right + 1])))
    window = slice(top, top + HEIGHT), slice(left, left + WIDTH)
    result = run(name, options, example, seed)
    padding = (down, down), (right, right)
    np.testing.assert_array_equal(result["image"], np.pad(example["image"], (*padding, (0, 0)))[window])
    np.testing.assert_array_equal(result["segmentation_mask"], np.pad(example["segmentation_mask"], padding)[window])


@hypothesis.given(seed=seeds)
def test_a_flip_is_one_draw_and_turns_everything(seed):
    example = random_example()
    result = run("random_flip", {}, example, seed)
    turn = bool(jax.random.bernoulli(jax.random.key(seed)))
    for name in ("image", "segmentation_mask"):
        np.testing.assert_array_equal(result[name], example[name][:, ::-1] if turn else example[name])
    np.testing.assert_allclose(result["boxes"], [[0.1, 0.4, 0.5, 0.8] if turn else [0.1, 0.2, 0.5, 0.6]], atol=1e-6)


@pytest.mark.parametrize(("name", "options"), BY_WHOLE_PIXELS)
@hypothesis.given(seed=seeds)
def test_a_mask_moves_by_whole_pixels_as_an_image_of_its_classes(name, options, seed):
    mask = random_example()["segmentation_mask"]
    picture = (mask[:, :, None] / 255).astype(np.float32)
    result = run(name, options, {"image": picture, "segmentation_mask": mask}, seed)
    np.testing.assert_array_equal(result["segmentation_mask"], np.rint(result["image"][:, :, 0] * 255))


def positions(name: str, options: dict, seed: int) -> np.ndarray:
    """Where each pixel of a rotated or zoomed image comes from, [2, H, W], in float64."""
    key, centre = jax.random.key(seed), (np.array([HEIGHT, WIDTH]) - 1) / 2
    if name == "random_rotation":
        angle = np.deg2rad(float(jax.random.uniform(key, (), minval=-options["degrees"], maxval=options["degrees"])))
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    else:
        matrix = np.eye(2) / float(jax.random.uniform(key, (), minval=options["low"], maxval=options["high"]))
    grid = np.moveaxis(np.indices((HEIGHT, WIDTH)), 0, -1) - centre
    return np.moveaxis(grid @ matrix.T + centre, -1, 0)


def nearest(mask: np.ndarray, places: np.ndarray, mode: str) -> np.ndarray:
    rows, columns = np.rint(places).astype(int)
    far = 40  # beyond what a move of these tests reaches
    padded = np.pad(mask, far, {"zeros": "constant"}.get(mode, mode))
    return padded[rows + far, columns + far]


@pytest.mark.parametrize(("name", "options"), BETWEEN_PIXELS)
@hypothesis.given(seed=seeds)
def test_a_mask_between_pixels_takes_the_nearest(name, options, seed):
    """Classes are never blended; what comes from outside is 0, or reflected."""
    mask = random_example()["segmentation_mask"]
    places = positions(name, options, seed)
    clear = (np.abs(places - np.floor(places) - 0.5) > 1e-4).all(0)  # elsewhere two pixels are equally near
    result = run(name, options, {"image": mask[:, :, None] / np.float32(5), "segmentation_mask": mask}, seed)
    expected = nearest(mask, places, options.get("mode", "zeros"))
    np.testing.assert_array_equal(result["segmentation_mask"][clear], expected[clear])


@pytest.mark.parametrize(("name", "options"), BETWEEN_PIXELS)
@hypothesis.given(seed=seeds, rectangle=rectangles())
def test_a_mask_lies_on_what_it_lay_on(name, options, seed, rectangle):
    """An image of its indicator that mixes four neighbours is above 3/4 only where the nearest is of the class."""
    result = run(name, options, solid(*rectangle), seed)
    image, mask = result["image"][:, :, 0], result["segmentation_mask"]
    assert mask[image > 0.7501].all()
    assert not mask[image < 0.2499].any()


@pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name, options in BY_WHOLE_PIXELS if "mode" not in options]
)
@hypothesis.settings(max_examples=50)
@hypothesis.given(seed=seeds, rectangle=rectangles())
def test_a_box_by_whole_pixels_is_the_extent_of_what_it_holds(name, options, seed, rectangle):
    """Zeros if nothing of it is left; and no box stays none."""
    result = run(name, options, solid(*rectangle), seed)
    none, box, empty = result["boxes"]
    np.testing.assert_allclose(in_pixels(box), extent(result["segmentation_mask"]), atol=1e-4)
    assert result["segmentation_mask"].any() or not box.any()
    assert not none.any()
    assert not empty.any()


@pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name, options in BETWEEN_PIXELS if "mode" not in options]
)
@hypothesis.settings(max_examples=50)
@hypothesis.given(seed=seeds, rectangle=rectangles())
def test_a_box_between_pixels_is_the_extent_of_what_it_holds(name, options, seed, rectangle):
    """Within a pixel where all of it stays inside; cut off at the edge it may only be larger."""
    result = run(name, options, solid(*rectangle), seed)
    none, box, empty = result["boxes"]
    assert 0 <= box.min() <= box.max() <= 1
    assert not none.any()
    assert not empty.any()
    found = extent(result["segmentation_mask"])
    if found.any():
        top, left, bottom, right = in_pixels(box) - found
        assert max(top, left, -bottom, -right) <= 0.5 + 1e-4
        if (box > 0).all() and (box < 1).all():
            assert np.abs([top, left, bottom, right]).max() <= 1 + 1e-4


def test_a_box_that_leaves_the_image_is_none():
    """Also where rounding leaves it a millionth of a pixel."""
    assert np.float32(7 / WIDTH) * np.float32(WIDTH) > 7
    boxes = np.array([[0, 0, 0.3, 1], [0.5, 0, 0.9, 7 / WIDTH], [0.2, 0.5, 0.4, 8 / WIDTH], [0, 0, 1, 1]], np.float32)
    example = {"image": np.ones((HEIGHT, WIDTH, 1), np.float32), "boxes": boxes}
    away = jit(functools.partial(geometry.affine, matrix=((1.0, 0.0), (0.0, 1.0)), shift=(3.0, 7.0)))
    result = np.asarray(away(example)["boxes"])
    assert not result[:2].any()
    np.testing.assert_allclose(result[2:], [[0, 0, 0.1, 1 / WIDTH], [0, 0, 0.7, 6 / WIDTH]], atol=1e-6)


def test_boxes_go_by_the_inverse_of_the_map():
    """Of a map that is neither symmetric nor without shift, at the centre of a box."""
    matrix, shift = np.array([[0.9, 0.3], [-0.2, 1.1]]), np.array([1.5, -0.5])
    box = np.array([[0.45, 0.4, 0.6, 0.6]])
    example = {"image": np.ones((HEIGHT, WIDTH, 1), np.float32), "boxes": box.astype(np.float32)}
    move = jit(functools.partial(geometry.affine, matrix=matrix.tolist(), shift=shift.tolist()))
    result = in_pixels(np.asarray(move(example)["boxes"][0]))
    top, left, bottom, right = in_pixels(box[0])
    middle = np.array([HEIGHT, WIDTH]) / 2
    corners = np.array([[row, column] for row in (top, bottom) for column in (left, right)])
    moved = np.linalg.solve(matrix, (corners - middle - shift).T).T + middle
    np.testing.assert_allclose(result, [*moved.min(0), *moved.max(0)], atol=1e-4)


def even_grey_by_rand_augment(seed: int) -> dict[str, np.ndarray]:
    example = solid(0, 0, HEIGHT, WIDTH) | {"image": np.full((HEIGHT, WIDTH, 3), 0.6, np.float32)}
    return run("rand_augment", {"operations": 1, "magnitude": 10.0}, example, seed)


@hypothesis.given(seed=seeds)
def test_rand_augment_moves_what_lies_on_an_image(seed):
    """Black comes in from outside, whatever else happens to an even grey: there the class is 0."""
    result = even_grey_by_rand_augment(seed)
    image, mask, box = result["image"].max(-1), result["segmentation_mask"], in_pixels(result["boxes"][1])
    assert mask[image > 0.7501 * image.max()].all()
    assert not mask[image < 0.2499 * image.max()].any()
    top, left, bottom, right = box - extent(mask)
    assert max(top, left, -bottom, -right) <= 0.5 + 1e-4


def test_some_operations_of_rand_augment_move_and_some_do_not():
    assert {bool(even_grey_by_rand_augment(seed)["segmentation_mask"].all()) for seed in range(20)} == {True, False}


def test_a_mask_may_have_a_dimension_of_one_channel():
    example = random_example()
    flat = run("random_zoom", {}, example, 0)["segmentation_mask"]
    example["segmentation_mask"] = example["segmentation_mask"][:, :, None]
    np.testing.assert_array_equal(run("random_zoom", {}, example, 0)["segmentation_mask"], flat[:, :, None])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation_mask": np.zeros((HEIGHT, WIDTH), np.float32)}, r"segmentation_mask is float32 \[10, 13\]"),
        ({"segmentation_mask": np.zeros((WIDTH, HEIGHT), np.int32)}, r"allowed are integers, \[10, 13\]"),
        ({"boxes": np.zeros((2, 4), np.int32)}, r"boxes of an image are int32 \[2, 4\]: allowed are floats \[M, 4\]"),
        ({"boxes": np.zeros((4,), np.float32)}, r"boxes of an image are float32 \[4\]"),
    ],
)
def test_what_is_no_mask_or_no_boxes_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        augment.random_flip(random_example() | change, jax.random.key(0))


def test_an_image_alone_is_not_moved_while_something_lies_on_it():
    image = random_example()["image"]
    with geometry.left_behind(["boxes"]), pytest.raises(InputError, match="leaves boxes where they are"):
        augment.random_flip(image, jax.random.key(0))
    with geometry.left_behind([]):
        augment.random_flip(image, jax.random.key(0))


def test_a_move_of_ones_own_may_change_the_size_of_the_image():
    """The left half: boxes are shares of the new width."""
    width = WIDTH // 2
    half = geometry.Move(
        lambda image: image[:, :width], lambda mask: mask[:, :width], lambda row, column: (row, column)
    )
    result = geometry.moved(solid(1, 2, 4, 9), half)
    assert result["image"].shape == (HEIGHT, width, 1)
    scale = np.array([HEIGHT, width, HEIGHT, width])
    np.testing.assert_allclose(result["boxes"][1] * scale, extent(result["segmentation_mask"]), atol=1e-5)
