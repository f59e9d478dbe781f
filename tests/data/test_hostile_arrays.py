"""Files made to harm: refused by their headers, in a line, before memory is taken or a line of theirs is run."""

import io
import os
import pathlib
import pickle
import random
import tracemalloc
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from experiments.commands.distance import distance
from experiments.inputs import named_pictures
from jaxrec.data.cache import kept_arrays
from jaxrec.data.npz import UNREADABLE, opened
from jaxrec.data.sources import npz
from jaxrec.errors import InputError

SMALL = 2**21  # bytes that refusing a file may take
IMAGE = np.arange(192, dtype=np.uint8).reshape(3, 8, 8, 1)


class Canary:
    """Read by pickle, it makes a folder."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def header(descr: str, shape: str, content: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def archive(content: bytes, name: str = "x_train.npy", *, way: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", way) as file:
        file.writestr(name, content)
    return stream.getvalue()


def twice() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("x_train.npy", npy(IMAGE))
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("x_train.npy", npy(IMAGE))
    return stream.getvalue()


def flagged(flag: int) -> bytes:
    """An archive whose entry says that it is encrypted, for example, in both of its headers."""
    content = bytearray(archive(npy(IMAGE)))
    content[6] |= flag
    content[content.index(b"PK\x01\x02") + 8] |= flag
    return bytes(content)


def canary(folder: pathlib.Path) -> np.ndarray:
    return np.array([Canary(folder / "canary")], object)


PACKED = zipfile.ZIP_DEFLATED
CASES: dict[str, tuple[Callable[[pathlib.Path], bytes], str]] = {
    "objects": (lambda folder: archive(npy(canary(folder))), "x_train.npy: Python objects, which are never read"),
    "objects in a field": (lambda folder: archive(header("[('a', '|O')]", "(1,)")), "Python objects"),
    "a pickle": (lambda folder: pickle.dumps(canary(folder)), "not a zip file"),
    "a pickle in an archive": (lambda folder: archive(pickle.dumps(canary(folder))), "no array's header"),
    "a pickle under another name": (
        lambda folder: archive(pickle.dumps(canary(folder)), "data.pkl"),
        "no array's name",
    ),
    "a pickle before an archive": (
        lambda folder: pickle.dumps(canary(folder)) + archive(npy(canary(folder))),
        "Python objects",
    ),
    "10^15 rows": (lambda _: archive(header("'|u1'", f"({10**15}, 8, 8, 1)")), r"claims uint8\[1000000000000000, 8,"),
    "10^15 rows of nothing": (lambda _: archive(header("'|V0'", f"({10**15},)")), "claims"),
    "rows beyond 64 bits": (lambda _: archive(header("'|u1'", f"({2**32}, {2**32})")), "claims"),
    "fewer rows than none": (lambda _: archive(header("'|u1'", "(-1, -192)", IMAGE.tobytes())), "claims"),
    "a header without end": (lambda _: archive(b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 2**20), "array's header"),
    "a deep header": (lambda _: archive(header("-" * 9000 + "1", "(1,)")), "array's header"),
    "zeros": (
        lambda _: archive(header("'|u1'", f"({2**27},)", bytes(2**27)), way=PACKED),
        r"130,\d{3} bytes that unpack to 134,\d{3},\d{3}; 100 times as many are allowed. .*np.savez",
    ),
    "zeros in many entries": (lambda _: many(), r"unpack to"),
    "a way out": (lambda _: archive(npy(IMAGE), "../x_train.npy"), "'../x_train.npy' is no array's name"),
    "an absolute way": (lambda _: archive(npy(IMAGE), "/tmp/x_train.npy"), "no array's name"),
    "a name of two lines": (lambda _: archive(npy(IMAGE), "x\n.npy"), "no array's name"),
    "a way out, as Windows writes it": (lambda _: archive(npy(IMAGE), "a\\..\\..\\x.npy"), "no array's name"),
    "two of one name": (lambda _: twice(), "two entries of one name"),
    "an encrypted one": (lambda _: flagged(1), "x_train.npy: encrypted"),
    "patched data": (lambda _: flagged(32), "flag bit 5"),
    "another way to pack": (lambda _: archive(npy(IMAGE), way=zipfile.ZIP_LZMA), "packed in a way"),
}


def many() -> bytes:
    content = header("'|u1'", f"({2**22},)", bytes(2**22))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", PACKED) as file:
        for index in range(20):
            file.writestr(f"x{index}_train.npy", content)
    return stream.getvalue()


def peak(read: Callable[[], object]) -> tuple[Exception | None, int]:
    """What a call raises, and the bytes of memory that it takes for a moment."""
    tracemalloc.start()
    try:
        read()
    except Exception as error:
        return error, tracemalloc.get_traced_memory()[1]
    else:
        return None, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_before_memory_is_taken(tmp_path, case):
    make, message = CASES[case]
    file = tmp_path / "x.npz"
    file.write_bytes(make(tmp_path))
    readers = [
        lambda: npz(path=str(file)),
        lambda: named_pictures([str(file)]),
        lambda: distance(generated=str(file), real=str(file)),
    ]
    for read in readers:
        error, taken = peak(read)
        assert isinstance(error, InputError), error
        line = str(error)
        assert line.isprintable(), line
        with pytest.raises(InputError, match=rf"not an \.npz file of plain arrays \(.*{message}"):
            raise error
        assert taken < SMALL
    with pytest.warns(UserWarning, match=f"a damaged cache .*{message}"):
        assert kept_arrays(file, lambda: {"a": np.ones(1)})["a"] == 1
    assert not (tmp_path / "canary").exists()


def test_the_canary_sings(tmp_path):
    """Else the test above would pass on a file that harms nobody."""
    pickle.loads(pickle.dumps(canary(tmp_path)))
    assert (tmp_path / "canary").is_dir()


@pytest.mark.parametrize(("save", "side"), [(np.savez, 8), (np.savez_compressed, 512)])
def test_what_is_meant_is_read(tmp_path, save, side):
    """Large, of all kinds, and some of it zeros."""
    arrays = {
        "x_train": np.random.default_rng(0).integers(0, 256, (40, 256, 256, 1), np.uint8),
        "mask_train": np.zeros((40, side, side, 2), np.float32),  # 84 MB that pack to next to nothing
        "y_train": np.arange(40),
        "classes": np.array([f"class {index}" for index in range(40)]),
        "none": np.zeros((0, 7)),
        "one": np.float64(3),
        "turned": np.asfortranarray(np.arange(12).reshape(3, 4)),
    }
    save(tmp_path / "x.npz", **arrays)
    with opened(tmp_path / "x.npz") as file:
        for name, array in arrays.items():
            np.testing.assert_array_equal(file[name], array)
            assert file[name].dtype == array.dtype


def test_whatever_a_damaged_file_provokes_is_one_of_what_is_caught(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=IMAGE, classes=np.array(["a", "bc"]))
    whole, rng = (tmp_path / "x.npz").read_bytes(), random.Random(0)
    refused = 0
    for _ in range(1000):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 3))):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        (tmp_path / "damaged.npz").write_bytes(damaged)
        try:
            with opened(tmp_path / "damaged.npz") as file:
                for name in file.files:
                    file[name]
        except UNREADABLE:
            refused += 1
    assert refused > 700
