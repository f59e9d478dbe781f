"""A fingerprint changes with the data, and with nothing else."""

import hashlib

import numpy as np
import pytest

from jaxrec.data import fingerprint as module
from jaxrec.data.batches import Dataset
from jaxrec.data.fingerprint import fingerprint
from jaxrec.data.listing import Files
from jaxrec.data.streaming import Stream
from jaxrec.errors import InputError

IMAGE = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), np.uint8)
LABEL = np.arange(100, dtype=np.int32) % 10


def of(image, label=LABEL) -> dict[str, int | str]:
    return fingerprint(Dataset({"label": label, "image": image}, {}))


def other_pixel() -> np.ndarray:
    image = IMAGE.copy()
    image[57, 3, 4, 0] ^= 1
    return image


@pytest.mark.parametrize(
    ("image", "label", "changed"),
    [
        (IMAGE.copy(), LABEL.copy(), set()),
        (np.asfortranarray(IMAGE), LABEL, set()),  # in memory elsewhere
        (other_pixel(), LABEL, {"image"}),
        (IMAGE[::-1], LABEL, {"image"}),
        (IMAGE.reshape(100, 4, 16, 1), LABEL, {"image"}),
        (IMAGE.astype(np.int8), LABEL, {"image"}),
        (IMAGE, LABEL[::-1], {"label"}),
        (IMAGE[1:], LABEL[1:], {"image", "label", "examples"}),
    ],
)
def test_what_changed_is_named(image, label, changed):
    before, now = of(IMAGE), of(image, label)
    assert {key for key in before if before[key] != now[key]} == changed


def test_it_is_a_sha256_of_type_shape_and_bytes():
    whole = hashlib.sha256(b"|u1 (100, 8, 8, 1)" + IMAGE.tobytes()).hexdigest()
    assert of(IMAGE) == {"examples": 100, "image": whole[:16], "label": of(IMAGE)["label"]}


def test_of_a_large_array_evenly_spaced_examples_are_hashed(monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 10 * 64)
    before, changed = of(IMAGE)["image"], []
    for row in range(100):
        image = IMAGE.copy()
        image[row] ^= 1
        changed += [row] * (of(image)["image"] != before)
    assert changed == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert of(IMAGE[:99], LABEL[:99])["image"] != before


@pytest.fixture
def files(tmp_path) -> Files:
    for index in range(200):
        (tmp_path / str(index)).write_bytes(bytes([index] * 10))
    return Files(tmp_path, [str(index) for index in range(200)])


def stream(files: Files) -> dict[str, int | str]:
    return of(Stream(files, size=(8, 8), channels=3), np.zeros(len(files), np.int32))


def test_of_a_stream_a_file_of_another_size_is_seen_and_few_are_read(files, monkeypatch):
    read, numbers = Files.read, []
    monkeypatch.setattr(Files, "read", lambda self, index: numbers.append(index) or read(self, index))
    before = stream(files)
    assert before == stream(files)
    assert len(numbers) == 2 * module.READ
    assert {0, 199} < set(numbers)
    assert 58 not in numbers
    files.path(58).write_bytes(b"another")
    assert stream(files)["image"] != before["image"]


def test_of_a_stream_a_file_that_was_read_may_not_change_at_all(files):
    before = stream(files)
    files.path(199).write_bytes(b"0123456789")
    assert stream(files)["image"] != before["image"]


def test_a_file_that_is_gone_is_named(files):
    files.path(57).unlink()
    with pytest.raises(InputError, match=r"/57: cannot be read \(No such file"):
        stream(files)
