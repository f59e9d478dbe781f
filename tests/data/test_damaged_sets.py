"""Damaged TFDS sets: each is one line with the set, the split, and the shard or example; nothing else escapes."""

import io
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from jaxrec.data import sources
from jaxrec.data.fingerprint import fingerprint
from jaxrec.errors import InputError

SIZES = {"train": 40, "test": 9}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    """A folder of two tiny sets, written by TFDS itself."""
    folder = tmp_path_factory.mktemp("whole")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow_datasets as tfds

    def examples(split: str):
        for index in range(SIZES[split]):
            pixels = np.random.default_rng((len(split), index)).integers(0, 256, (8, 8, 1), np.uint8)
            yield index, {"image": pixels, "label": index % 3}

    for name, kind in (("tiny_tf", "tfrecord"), ("tiny_array", "array_record")):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
                }
            ),
            split_datasets={split: examples(split) for split in SIZES},
            data_dir=folder,
            disable_shuffling=True,
            file_format=kind,
        )
    return folder


def flipped(place: int) -> Callable[[pathlib.Path], None]:
    def flip(path: pathlib.Path) -> None:
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)

    return flip


def with_record(change: Callable[[list[bytes]], object]) -> Callable[[pathlib.Path], None]:
    """Writes a shard whose checksums are right and whose records are not."""

    def rewrite(path: pathlib.Path) -> None:
        import tensorflow as tf

        records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
        change(records)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record)

    return rewrite


def example_5(change: Callable) -> Callable[[pathlib.Path], None]:
    def changed(records: list[bytes]) -> None:
        import tensorflow as tf

        example = tf.train.Example.FromString(records[5])
        change(example.features.feature)
        records[5] = example.SerializeToString()

    return with_record(changed)


def image_5(content: bytes) -> Callable[[pathlib.Path], None]:
    return example_5(lambda feature: feature["image"].bytes_list.value.__setitem__(0, content))


def png(shape: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def a_folder(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()


def text(content: str | bytes) -> Callable[[pathlib.Path], object]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


SHARD, TEST_SHARD = "tiny_tf-train.tfrecord-00000-of-00001", "tiny_tf-test.tfrecord-00000-of-00001"
ARRAYS = "tiny_array-train.array_record-00000-of-00001"
INFO, FEATURES, NAMES = "dataset_info.json", "features.json", "label.labels.txt"
OF_SHARD = f"'tiny_tf': train, {SHARD} is damaged"
KINDS = {
    "a flipped bit in the data": (SHARD, flipped(60), f"{OF_SHARD} .corrupted record at"),
    "a flipped bit in a length": (SHARD, flipped(2), f"{OF_SHARD} .corrupted record at"),
    "a flipped bit in a checksum": (SHARD, flipped(9), f"{OF_SHARD} .corrupted record at"),
    "a flipped bit at the end": (SHARD, flipped(-2), f"{OF_SHARD} .corrupted record at"),
    "a shard cut short": (SHARD, lambda path: os.truncate(path, 4000), f"{OF_SHARD} .truncated record at"),
    "an empty shard": (SHARD, text(""), "'tiny_tf': train holds 0 records instead of 40"),
    "a shard of something else": (SHARD, text("garbage" * 100), OF_SHARD),
    "a missing shard": (SHARD, pathlib.Path.unlink, f"{OF_SHARD} .*No such file"),
    "a missing shard of test": (TEST_SHARD, pathlib.Path.unlink, f"'tiny_tf': test, {TEST_SHARD} is damaged .*No such"),
    "a folder for a shard": (SHARD, a_folder, f"{OF_SHARD} .*Is a directory"),
    "too few records": (SHARD, with_record(lambda records: records.pop()), "train holds 39 records instead of 40"),
    "too many records": (SHARD, with_record(lambda records: records.append(records[0])), "train holds 41 records inst"),
    "a record of garbage": (SHARD, with_record(lambda records: records.__setitem__(5, b"garbage")), OF_SHARD),
    "a record without a label": (SHARD, example_5(lambda feature: feature.pop("label")), OF_SHARD),
    "a record without an image": (
        SHARD,
        example_5(lambda feature: feature["image"].bytes_list.value.pop()),
        "'tiny_tf': example 5 of train cannot be read",
    ),
    "an image of garbage": (SHARD, image_5(b"garbage"), "'tiny_tf': example 5 of train: no picture"),
    "an image cut short": (SHARD, image_5(png((8, 8))[:-30]), "'tiny_tf': example 5 of train: "),
    "an image of another size": (
        SHARD,
        image_5(png((4, 4))),
        r"example 5 of train is an image \(4, 4, 1\), those of the",
    ),
    "a label beyond the classes": (
        SHARD,
        example_5(lambda feature: feature["label"].int64_list.value.__setitem__(0, 9)),
        "'tiny_tf': y_train reaches from 0 to 9; 3 classes allow 0 to 2",
    ),
    "fewer names than classes": (NAMES, text("a\n"), "'tiny_tf': y_train reaches from 0 to 2; 1 classes allow 0 to 0"),
    "a description of garbage": (INFO, text("garbage"), "'tiny_tf': cannot be opened .*dataset_info.json or features"),
    "an empty description": (
        INFO,
        text(""),
        "'tiny_tf': cannot be opened .*dataset_info.json or features.json there is",
    ),
    "a description of something else": (
        INFO,
        text("[]"),
        "'tiny_tf': cannot be opened .*dataset_info.json or features",
    ),
    "a description of no text": (
        INFO,
        text(b"\xff\xfe"),
        "'tiny_tf': cannot be opened .*dataset_info.json or features",
    ),
    "a missing description": (
        INFO,
        pathlib.Path.unlink,
        "'tiny_tf': cannot be opened .Could not read dataset info from",
    ),
    "features of garbage": (
        FEATURES,
        text("garbage"),
        "'tiny_tf': cannot be opened .*dataset_info.json or features.json",
    ),
    "unknown features": (
        FEATURES,
        text('{"pythonClassName": "os.x"}'),
        "'tiny_tf': cannot be opened .Unrecognized Featu",
    ),
    "missing features": (FEATURES, pathlib.Path.unlink, "tiny_tf is not whole, features.json is missing"),
    "a flipped bit in an ArrayRecord": (ARRAYS, flipped(7900), "'tiny_array': train is damaged .Corrupted Riegeli"),
    "an ArrayRecord cut short": (ARRAYS, lambda path: os.truncate(path, 70000), "'tiny_array': train is damaged "),
    "a missing ArrayRecord": (ARRAYS, pathlib.Path.unlink, "'tiny_array': train is damaged .*No such file"),
    "an ArrayRecord of something else": (
        ARRAYS,
        text("garbage"),
        "'tiny_array': train is damaged .ArrayRecord file sh",
    ),
}


@pytest.mark.parametrize(("file", "damage", "message"), KINDS.values(), ids=KINDS)
def test_a_damaged_set_is_one_line(whole, tmp_path, monkeypatch, file, damage, message):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = "tiny_array" if file == ARRAYS else "tiny_tf"
    shutil.copytree(whole / name, tmp_path / name)
    damage(tmp_path / name / "1.0.0" / file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            sources.tfds(dataset=name, data_dir=str(tmp_path))
    line = str(caught.value)
    assert line.isprintable()
    assert line.startswith(f"data.dataset = '{name}': ")
    assert re.search(message, line)
    assert "function_node" not in line


@pytest.mark.parametrize("kind", ["a flipped bit in the data", "a label beyond the classes", "a missing ArrayRecord"])
def test_nothing_is_kept_of_a_damaged_set(whole, tmp_path, monkeypatch, kind):
    """Mended, it has the same description, and so the same cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, damage, _ = KINDS[kind]
    name = "tiny_array" if file == ARRAYS else "tiny_tf"
    for folder in ("damaged", "mended"):
        shutil.copytree(whole / name, tmp_path / folder / name)
    damage(tmp_path / "damaged" / name / "1.0.0" / file)
    with pytest.raises(InputError):
        sources.tfds(dataset=name, data_dir=str(tmp_path / "damaged"))
    data = sources.tfds(dataset=name, data_dir=str(tmp_path / "mended"))
    assert len(data.image) == sum(SIZES.values())
    assert data.label.max() == 2


@pytest.mark.parametrize(("file", "grown"), [(SHARD, b"more"), (ARRAYS, b"")])
def test_other_shards_under_the_same_description_are_other_data(whole, tmp_path, monkeypatch, file, grown):
    """The index of a stream is kept, and would hide them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = file.partition("-")[0]
    shutil.copytree(whole / name, tmp_path / name)

    def found() -> dict[str, int | str]:
        return fingerprint(sources.tfds(dataset=name, data_dir=str(tmp_path), stream=True))

    before = found()
    with (tmp_path / name / "1.0.0" / file).open("ab") as stream:
        stream.write(grown)
    assert before["examples"] == sum(SIZES.values())
    assert {key for key in before if before[key] != found()[key]} == ({"image"} if grown else set())
