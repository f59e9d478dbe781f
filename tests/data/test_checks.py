"""What a set's arrays say of themselves: what cannot be meant is refused, what may be meant is one loud line."""

import re
import warnings

import numpy as np
import pytest

from jaxrec.data import sources
from jaxrec.data.batches import train_batches
from jaxrec.errors import InputError

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (30, 4, 5, 2), np.uint8)
LABEL = np.arange(30) % 3
MULTI = np.stack([LABEL == 0, LABEL < 2, np.arange(30) % 2], 1).astype(np.uint8)  # some rows hold two


@pytest.fixture
def read(tmp_path):
    """Writes arrays into a file and reads them as a set; x_train and y_train are there unless they are None."""

    def read(**arrays):
        arrays = {"x_train": IMAGE, "y_train": LABEL, **arrays}
        np.savez(tmp_path / "set.npz", **{name: array for name, array in arrays.items() if array is not None})
        return sources.npz(path=str(tmp_path / "set.npz"))

    return read


def refusal(read, **arrays) -> str:
    with pytest.raises(InputError) as caught:
        read(**arrays)
    message = str(caught.value)
    assert "\n" not in message
    assert "set.npz': " in message  # the file
    return message


def code_in(message: str) -> str:
    """What a message says to store."""
    return re.search(r"`(.*?)`", message)[1]


def stored(message: str, y_train: np.ndarray, **others: np.ndarray) -> dict[str, np.ndarray]:
    """The labels once a user has done what the message says."""
    names = {"np": np, "y_train": y_train, **others}
    code = code_in(message)
    exec(code if " = " in code else f"y_train = {code}", names)
    return names


# ---- labels that cannot be meant


@pytest.mark.parametrize(
    "numbers", [(1, 2, 3), (0, 100, 200), (-1, 0, 1), (5, 6, 9)], ids=lambda numbers: "_".join(map(str, numbers))
)
def test_gaps_in_the_numbering_are_refused_with_the_line_that_closes_them(read, numbers):
    y_train, y_test = np.array(numbers)[LABEL], np.array(numbers)[LABEL[:6]]
    message = refusal(read, y_train=y_train, y_test=y_test, x_test=IMAGE[:6])
    assert f"y_train numbers its classes {', '.join(map(str, numbers))}; they count from 0" in message
    mended = stored(message, y_train, y_test=y_test)
    data = read(y_train=mended["y_train"], y_test=mended["y_test"], x_test=IMAGE[:6])
    assert data.classes == ("0", "1", "2")
    np.testing.assert_array_equal(data.label, [*LABEL, *LABEL[:6]])


def test_a_class_that_only_another_split_has_is_refused(read):
    message = refusal(read, x_test=IMAGE, y_test=LABEL + 1)
    assert "y_test has 3, of which y_train has no example (it has 0, 1, 2)" in message
    message = refusal(read, x_validation=IMAGE, y_validation=LABEL + 1)
    assert "y_validation has 3" in message
    names = np.array(list("abcdefgh"))
    message = refusal(read, x_test=IMAGE, y_test=LABEL + 5, classes=names)
    assert "y_test holds no class that y_train holds: 5, 6, 7, there 0, 1, 2" in message


@pytest.mark.parametrize(
    ("arrays", "there", "missing"),
    [
        ({"x_test": IMAGE}, "y_train", "y_test"),
        ({"y_test": LABEL}, "x_train", "x_test"),
        ({"y_train": None, "x_test": IMAGE, "y_test": LABEL}, "y_test", "y_train"),
        ({"boxes_train": np.zeros((30, 1, 4)), "x_test": IMAGE, "y_test": LABEL}, "boxes_train", "boxes_test"),
        ({"boxes_test": np.zeros((30, 1, 4)), "x_test": IMAGE, "y_test": LABEL}, "boxes_test", "boxes_train"),
    ],
)
def test_a_split_without_what_the_others_have_is_refused(read, arrays, there, missing):
    assert f"{there} is there and {missing} is not" in refusal(read, **arrays)


def test_labels_of_another_type_are_refused_with_the_line_that_converts_them(read):
    names = np.array(["cat", "dog", "hen"])
    for wrong, said in [
        (names[LABEL], "y_train holds text"),
        (LABEL.astype(np.float32), r"y_train is float32\[30\]"),
        (np.eye(3)[LABEL], r"y_train is float64\[30, 3\]"),
        (np.eye(3, dtype=np.uint8)[LABEL], r"y_train is int32\[30, 3\] with a single 1 in each row, one-hot"),
        (np.eye(3, dtype=bool)[LABEL], "one-hot"),
        (LABEL[:, None], r"y_train is int64\[30, 1\]"),
    ]:
        message = refusal(read, y_train=wrong)
        assert re.search(said, message)
        mended = stored(message, wrong)
        data = read(y_train=mended["y_train"], classes=mended.get("classes"))
        np.testing.assert_array_equal(data.label, LABEL)
        assert data.classes == (tuple(names) if wrong.dtype.kind == "U" else ("0", "1", "2"))
    message = refusal(read, x_test=IMAGE[:6], y_test=names[LABEL[:6]], classes=names)
    mended = stored(message, LABEL, y_test=names[LABEL[:6]], classes=names)
    np.testing.assert_array_equal(mended["y_test"], LABEL[:6])
    assert "The first is 0.5" in refusal(read, y_train=LABEL / 2)
    assert "segmentation_mask_train" in refusal(read, y_train=np.zeros((30, 4, 5), np.uint8))
    assert "reaches from 0 to 4294967296" in refusal(read, y_train=LABEL * 2**31, classes=names)
    assert "reaches from 0 to 2; 2 classes allow 0 to 1" in refusal(read, classes=names[:2])


# ---- several labels


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int64])
def test_labels_of_zeros_and_ones_are_several_for_an_image(read, dtype):
    data = read(y_train=MULTI.astype(dtype))
    assert (data.label.dtype, data.classes, data.one_label) == (np.int32, ("0", "1", "2"), None)
    np.testing.assert_array_equal(data.label, MULTI)
    assert {split: len(ids) for split, ids in data.splits.items()} == {"train": 21, "validation": 3, "test": 6}
    np.testing.assert_array_equal(np.sort(np.concatenate(list(data.splits.values()))), np.arange(30))


def test_labels_that_are_not_zeros_and_ones_or_not_as_many_as_names_are_refused(read):
    assert "reaches from 0 to 2" in refusal(read, y_train=MULTI * 2)
    assert "a column for 3 classes, and there are 2 names" in refusal(read, y_train=MULTI, classes=np.array(["a", "b"]))
    assert "int32[6, 2]" in refusal(read, y_train=MULTI, x_test=IMAGE[:6], y_test=MULTI[:6, :2])


# ---- what may be meant


def test_a_named_class_that_train_does_not_have_is_one_loud_line(read):
    names = np.array(["a", "b", "c", "d", "e"])
    with pytest.warns(
        UserWarning, match=r"set.npz': 2 of 5 classes without an example in train: 3 \(d\), 4 \(e\)"
    ) as told:
        data = read(classes=names)
    assert (len(told), "\n" in str(told[0].message)) == (1, False)
    assert data.classes == tuple(names)
    with pytest.warns(UserWarning, match=r"1 of 4 classes without an example in train: 3 \(d\).*y_test has some"):
        read(x_test=IMAGE, y_test=LABEL + 1, classes=names[:4])
    with pytest.warns(UserWarning, match=r"1 of 3 classes without an example in train: 1 \(1\)"):
        read(y_train=MULTI * np.uint8([1, 0, 1]))


def test_arrays_that_are_not_read_are_named(read):
    with pytest.warns(UserWarning, match="x_val, y_val left out: arrays are called <key>_train"):
        data = read(x_val=IMAGE, y_val=LABEL)
    assert len(data.image) == 30
    with pytest.warns(UserWarning, match="classes left out"):
        assert read(y_train=None, classes=np.array(["a"])).classes == ()
    with pytest.warns(UserWarning, match="image_train left out"):
        np.testing.assert_array_equal(read(image_train=IMAGE[::-1]).image, IMAGE)


def test_images_with_channels_first_are_asked_about(read):
    with pytest.warns(UserWarning, match=r"`x_train.transpose\(0, 2, 3, 1\)`"):
        read(x_train=IMAGE.repeat(4, 1).repeat(4, 2)[..., :1].transpose(0, 3, 1, 2))


# ---- images


@pytest.mark.parametrize("factor", [1, 200])
def test_images_of_whole_numbers_are_refused_with_the_line_that_converts_them(read, factor):
    wrong = IMAGE.astype(np.int64) * factor
    message = refusal(read, x_train=wrong)
    assert "x_train is int64[30, 4, 5, 2]: images are uint8 in [0, 255] or float" in message
    data = read(x_train=eval(code_in(message), {"x_train": wrong}))
    assert data.image.dtype == (np.uint8 if factor == 1 else np.float32)
    np.testing.assert_allclose(data.image, IMAGE if factor == 1 else wrong / wrong.max(), rtol=1e-6)


@pytest.mark.parametrize("value", [3e38, -1e30, 1e5])
@pytest.mark.parametrize("count", [1, 4])
def test_a_pixel_beside_which_the_others_are_nothing_is_named(read, value, count):
    image = (IMAGE / 255).astype(np.float32)
    image[7 : 7 + count, 1, 2, 0] = value
    message = refusal(read, x_train=image)
    assert f"x_train[7] has a pixel of size {abs(value):.3g}, most images of train reach to 0.976" in message
    assert f"({count} of these)" in message
    clean = (IMAGE / 255).astype(np.float32)
    assert "x_test[7]" in refusal(read, x_train=clean, x_test=image, y_test=LABEL)


def test_bright_images_among_dark_ones_are_left_alone(read):
    """Deviations are dominated by no image where many are bright, and in sets where most images are empty."""
    image = (IMAGE / 255).astype(np.float32)
    image[::2] *= 500
    np.testing.assert_array_equal(read(x_train=image).image, image)
    image = np.zeros_like(image)
    image[3] = 1
    np.testing.assert_array_equal(read(x_train=image).image, image)


def test_values_that_float32_does_not_hold_are_refused(read):
    image = IMAGE / 255
    image[5, 0, 0, 0] = 1e300
    assert "x_train holds NaN or infinite values in 1 rows, the first is number 5" in refusal(read, x_train=image)


# ---- further arrays, and none of labels


def test_further_arrays_become_keys_of_a_batch(read):
    mask, boxes = (IMAGE[..., 0] > 99), RNG.random((30, 2, 4))
    test = {"x_test": IMAGE[:6], "y_test": LABEL[:6], "boxes_test": boxes[:6], "segmentation_mask_test": mask[:6]}
    data = read(segmentation_mask_train=mask, boxes_train=boxes, **test)
    assert set(data.arrays) == {"image", "label", "segmentation_mask", "boxes"}
    np.testing.assert_array_equal(data.arrays["boxes"], np.float32([*boxes, *boxes[:6]]))
    batches = train_batches(data.arrays, ids=data.splits["test"], batch_size=4)
    rows = batches.host(0)
    batch = batches.fetch(batches.resident, rows)
    np.testing.assert_array_equal(batch["segmentation_mask"], mask[rows["id"] - 30])
    np.testing.assert_array_equal(batch["boxes"], np.float32(boxes[rows["id"] - 30]))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"boxes_train": np.zeros((29, 4))}, "boxes_train has 29 rows and x_train has 30"),
        ({"boxes_train": np.full((30, 4), np.nan)}, "boxes_train holds NaN"),
        ({"boxes_train": np.full((30, 1, 4), 6.0)}, "boxes_train reaches from 6 to 6: boxes are shares of height"),
        ({"boxes_train": np.zeros((30, 4))}, r"boxes_train is float\d+\[30, 4\]: it needs floats"),
        ({"segmentation_mask_train": np.zeros((30, 3, 3), int)}, "segmentation_mask_train is .*class of each pixel"),
        ({"code_train": np.full(30, 2**40)}, "code_train is int64.* beyond int32"),
        ({"seed_train": np.zeros(30)}, "seed_train cannot be used, batches say id, epoch, seed, mask of their rows"),
        ({"mask_train": np.zeros((30, 4, 5))}, "mask_train cannot be used"),
    ],
)
def test_further_arrays_that_make_no_batch_are_refused(read, arrays, said):
    assert re.search(said, refusal(read, **arrays))


def test_a_set_may_have_no_labels(read):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = read(y_train=None)
    assert (set(data.arrays), data.classes, data.one_label) == ({"image"}, (), None)
    assert {split: len(ids) for split, ids in data.splits.items()} == {"train": 21, "validation": 3, "test": 6}
    with pytest.raises(InputError, match="These data have no labels"):
        _ = data.label
