"""Data sets: separate splits, honest arrays, one helpful line where there are none."""

import hashlib
import math
import os
import pathlib
import pickle
import re
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxrec.data import sources
from jaxrec.data.batches import Dataset
from jaxrec.data.prepared import prepare_set
from jaxrec.errors import InputError

REPOSITORY = pathlib.Path(__file__).parents[2]


def assert_separate(data: Dataset) -> None:
    """The splits share no example and leave none out."""
    together = np.concatenate(list(data.splits.values()))
    np.testing.assert_array_equal(np.sort(together), np.arange(len(data.label)))


def refusal(read, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        read(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- digits


def test_digits_are_all_of_scikit_learns(digits):
    bunch = load_digits()
    assert (digits.image.shape, digits.image.dtype) == ((1797, 8, 8, 1), np.uint8)
    assert (digits.label.shape, digits.label.dtype) == ((1797,), np.int32)
    assert digits.classes == tuple("0123456789")
    np.testing.assert_array_equal(digits.label, bunch.target)
    # 17 shades spread over 0 to 255, none lost.
    np.testing.assert_allclose(digits.image[..., 0] * (16 / 255), bunch.images, atol=0.5 * 16 / 255)
    assert (digits.image.min(), digits.image.max(), len(np.unique(digits.image))) == (0, 255, 17)


def test_digits_splits_are_separate_and_stratified(digits):
    assert list(digits.splits) == ["train", "validation", "test"]
    assert {split: len(ids) for split, ids in digits.splits.items()} == {"train": 1293, "validation": 144, "test": 360}
    assert_separate(digits)
    whole = np.bincount(digits.label) / 1797
    for ids in digits.splits.values():
        # Each class in its share, up to the one example that cannot be cut.
        assert np.abs(np.bincount(digits.label[ids], minlength=10) - whole * len(ids)).max() <= 1


def test_the_split_seed_moves_validation_and_never_test(digits):
    same, other, larger = (
        sources.digits(split_seed=seed, validation=validation) for seed, validation in [(0, 0.1), (1, 0.1), (2, 0.3)]
    )
    for split, ids in digits.splits.items():
        np.testing.assert_array_equal(same.splits[split], ids)
    assert set(other.splits["validation"]) != set(digits.splits["validation"])
    assert len(larger.splits["validation"]) == math.ceil(0.3 * 1437)
    for data in (other, larger):
        assert_separate(data)
        np.testing.assert_array_equal(data.splits["test"], digits.splits["test"])
        np.testing.assert_array_equal(data.image, digits.image)


def test_no_validation_split_where_none_is_wanted():
    data = sources.digits(validation=0)
    assert set(data.splits) == {"train", "test"}
    assert_separate(data)


# ---- npz


def labelled(examples: int, classes: int = 3, shape: tuple[int, ...] = (4, 5, 2), dtype: str = "uint8"):
    rng = np.random.default_rng(examples)
    return rng.integers(0, 256, (examples, *shape)).astype(dtype), np.arange(examples) % classes


def written(folder: pathlib.Path, **arrays: np.ndarray) -> str:
    path = folder / "set.npz"
    np.savez(path, **arrays)
    return str(path)


def test_npz_with_all_its_splits(tmp_path):
    parts = {split: labelled(size) for split, size in [("test", 6), ("train", 12), ("validation", 9)]}
    arrays = {f"{kind}_{split}": a for split, pair in parts.items() for kind, a in zip("xy", pair, strict=True)}
    data = sources.npz(path=written(tmp_path, **arrays, classes=np.array(["cat", "dog", "hen"])), validation=0.5)
    assert list(data.splits) == ["train", "validation", "test"]
    assert data.classes == ("cat", "dog", "hen")
    assert (data.image.dtype, data.label.dtype) == (np.uint8, np.int32)
    assert_separate(data)
    for split, (image, label) in parts.items():
        np.testing.assert_array_equal(data.image[data.splits[split]], image)
        np.testing.assert_array_equal(data.label[data.splits[split]], label)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_npz_of_grey_images_without_a_channel(tmp_path, dtype):
    image, label = labelled(60, shape=(4, 5), dtype=dtype)
    data = sources.npz(path=written(tmp_path, x_train=image, y_train=label), validation=0.25)
    assert data.image.shape == (60, 4, 5, 1)
    assert data.image.dtype == (np.uint8 if dtype == "uint8" else np.float32)
    np.testing.assert_array_equal(data.image[..., 0], image)
    np.testing.assert_array_equal(data.label, label)
    assert data.classes == ("0", "1", "2")
    # A fifth is the test split, a quarter of the rest validation, each with its share of every class.
    assert {split: len(ids) for split, ids in data.splits.items()} == {"train": 36, "validation": 12, "test": 12}
    assert_separate(data)
    for ids in data.splits.values():
        assert len(set(np.bincount(label[ids]))) == 1


def test_npz_of_its_own_test_split_is_left_as_it_is(tmp_path):
    train, test = labelled(30), labelled(7)
    path = written(tmp_path, x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
    seeds = [sources.npz(path=path, split_seed=seed) for seed in (0, 1)]
    for data in seeds:
        np.testing.assert_array_equal(data.image[data.splits["test"]], test[0])
        assert len(data.splits["validation"]) == 3
        assert_separate(data)
    assert set(seeds[0].splits["validation"]) != set(seeds[1].splits["validation"])


def test_npz_missing(tmp_path):
    assert str(tmp_path / "no.npz") in refusal(sources.npz, path=str(tmp_path / "no.npz"))


def damaged(kind: str, folder: pathlib.Path) -> pathlib.Path:
    path = folder / "set.npz"
    if kind == "text":
        path.write_text("label,pixel\n1,0\n")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "one array":
        with path.open("wb") as file:
            np.save(file, np.zeros((3, 2, 2)))
    else:
        image, label = labelled(30)
        whole = pathlib.Path(written(folder, x_train=image, y_train=label)).read_bytes()
        if kind == "cut short":
            path.write_bytes(whole[: len(whole) // 2])
        else:
            middle = len(whole) // 4
            path.write_bytes(whole[:middle] + b"\x00" * 40 + whole[middle + 40 :])
    return path


@pytest.mark.parametrize("kind", ["text", "empty", "folder", "one array", "cut short", "flipped bits"])
def test_what_is_no_npz_is_refused(tmp_path, kind):
    assert "not an .npz file of plain arrays" in refusal(sources.npz, path=str(damaged(kind, tmp_path)))


class Planted:
    """Pickled, it runs a command when it is loaded: the classic attack through a data file."""

    def __init__(self, trace: pathlib.Path):
        self.trace = trace

    def __reduce__(self):
        return pathlib.Path.touch, (self.trace,)


@pytest.mark.parametrize("name", ["x_train", "classes", "unrelated"])
def test_pickled_objects_are_refused_and_never_run(tmp_path, name):
    trace = tmp_path / "trace"
    image, label = labelled(30)
    arrays = {"x_train": image, "y_train": label, name: np.array([Planted(trace)] * 30, dtype=object)}
    path = written(tmp_path, **arrays)
    assert "not an .npz file of plain arrays" in refusal(sources.npz, path=path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Planted(trace)))  # the trap does work
    assert trace.exists()


IMAGE, LABEL = labelled(30)
FLOATS = IMAGE.astype(np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_test": IMAGE, "y_test": LABEL}, r"needs an array x_train, and holds x_test, y_test"),
        ({}, r"needs an array x_train, and holds none"),
        ({"x_train": IMAGE, "y_train": LABEL, "classes": ["a", "b"]}, "from 0 to 2; 2 classes allow 0 to 1"),
        ({"x_train": IMAGE, "y_train": LABEL, "classes": "abc"}, "classes has 0 dimensions"),
        ({"x_train": np.where(FLOATS > 250, np.nan, FLOATS), "y_train": LABEL}, "x_train holds NaN or infinite"),
        ({"x_train": np.where(FLOATS > 250, np.inf, FLOATS), "y_train": LABEL}, "x_train holds NaN or infinite"),
        ({"x_train": IMAGE[:, 0, 0], "y_train": LABEL}, r"x_train is uint8\[30, 2\]: images are \[N, H, W, C\]"),
        ({"x_train": IMAGE[..., None], "y_train": LABEL}, r"x_train is uint8\[30, 4, 5, 2, 1\]: images are"),
        ({"x_train": IMAGE, "y_train": LABEL[:29]}, "y_train has 29 rows and x_train has 30"),
        ({"x_train": IMAGE, "y_train": LABEL * np.nan}, r"y_train is float64\[30\]: labels are whole numbers"),
        ({"x_train": IMAGE.astype(str), "y_train": LABEL}, r"x_train is <U3\[30, 4, 5, 2\]: images are uint8"),
        # 16 bits would pass as a float that no one brings to [0, 1].
        ({"x_train": IMAGE.astype(np.uint16), "y_train": LABEL}, r"x_train is uint16"),
        ({"x_train": IMAGE > 9, "y_train": LABEL}, r"x_train is bool.*Store `x_train.astype\(\"float32\"\)`"),
        ({"x_train": IMAGE, "y_train": LABEL, "x_test": IMAGE[:, :3], "y_test": LABEL}, "x_test is uint8.* one size"),
        ({"x_train": IMAGE, "y_train": LABEL, "x_test": FLOATS / 255, "y_test": LABEL}, "x_test is float32.* one type"),
        (
            {"x_train": IMAGE[:2], "y_train": LABEL[:2]},
            "2 training examples of 2 classes, 1 of the rarest, are too few",
        ),
        ({"x_train": IMAGE[:0], "y_train": LABEL[:0]}, "0 training examples are too few to hold 20% of them out"),
        ({"x_train": IMAGE[:1]}, "1 training examples are too few .* Add examples, or a test split of your own."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_are_no_images_are_refused(tmp_path, arrays, message):
    """Labels and further arrays have their tests in `test_checks.py`."""
    assert re.search(message, refusal(sources.npz, path=written(tmp_path, **arrays)))


# ---- tfds

SIZES = {"train": 40, "test": 9}


def tiny_image(split: str, index: int) -> np.ndarray:
    return np.random.default_rng((len(split), index)).integers(0, 256, (8, 8, 1), np.uint8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> pathlib.Path:
    """A TFDS folder that holds tiny sets, written by TFDS itself."""
    folder = tmp_path_factory.mktemp("prepared")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow_datasets as tfds

    def write(name: str, shape: tuple[int | None, ...], label: str, config: str | None = None) -> None:
        features = {"image": tfds.features.Image(shape=shape), label: tfds.features.ClassLabel(names=["a", "b", "c"])}

        def examples(split: str):
            for index in range(SIZES[split]):
                yield index, {"image": tiny_image(split, index), label: index % 3}

        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            config=config,
            features=tfds.features.FeaturesDict(features),
            split_datasets={split: examples(split) for split in SIZES},
            data_dir=folder,
            disable_shuffling=True,
        )

    write("tiny_blocks", (8, 8, 1), "label")
    write("tiny_configured", (8, 8, 1), "label", config="grey")
    write("tiny_any_size", (None, None, 1), "label")
    write("tiny_without_label", (8, 8, 1), "kind")
    return folder


def test_a_prepared_set_is_read_in_its_own_order(prepared):
    data = sources.tfds(dataset="tiny_blocks", data_dir=str(prepared), validation=0.1)
    assert (data.image.shape, data.image.dtype) == ((49, 8, 8, 1), np.uint8)
    assert data.classes == ("a", "b", "c")
    assert_separate(data)
    assert {split: len(ids) for split, ids in data.splits.items()} == {"train": 36, "validation": 4, "test": 9}
    images = [tiny_image(split, index) for split, size in SIZES.items() for index in range(size)]
    np.testing.assert_array_equal(data.image, images)
    np.testing.assert_array_equal(data.label, [index % 3 for size in SIZES.values() for index in range(size)])
    np.testing.assert_array_equal(data.splits["test"], np.arange(40, 49))


def test_the_second_time_neither_tensorflow_nor_the_records_are_needed(prepared):
    first = sources.tfds(dataset="tiny_blocks", data_dir=str(prepared))
    for record in (prepared / "tiny_blocks" / "1.0.0").glob("*.tfrecord*"):
        record.rename(record.with_name(f"hidden-{record.name}"))
    program = """
        import hashlib, sys
        sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None  # importing them fails
        from jaxrec.data import sources
        data = sources.tfds(dataset="tiny_blocks", data_dir=sys.argv[1])
        print(hashlib.sha256(data.image.tobytes() + data.label.tobytes()).hexdigest())
    """
    try:
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), str(prepared)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        for record in (prepared / "tiny_blocks" / "1.0.0").glob("hidden-*"):
            record.rename(record.with_name(record.name.removeprefix("hidden-")))
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == hashlib.sha256(first.image.tobytes() + first.label.tobytes()).hexdigest()


@pytest.mark.parametrize("dataset", ["tiny_configured/grey", "tiny_configured", "tiny_blocks:1.0.0"])
def test_every_name_that_tfds_understands_is_read(prepared, dataset):
    for _ in range(2):
        data = sources.tfds(dataset=dataset, data_dir=str(prepared))
        np.testing.assert_array_equal(data.image[40], tiny_image("test", 0))


def test_a_set_prepared_anew_is_read_anew(prepared, tmp_path):
    """The cache belongs to one preparation: another with the same name and version must not meet it."""
    import tensorflow_datasets as tfds

    sources.tfds(dataset="tiny_blocks", data_dir=str(prepared))
    image = np.full((8, 8, 1), 7, np.uint8)
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny_blocks",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(8, 8, 1)), "label": tfds.features.ClassLabel(num_classes=2)}
        ),
        split_datasets={"train": ((index, {"image": image, "label": index % 2}) for index in range(20))},
        data_dir=tmp_path,
    )
    data = sources.tfds(dataset="tiny_blocks", data_dir=str(tmp_path))
    assert data.image.shape == (20, 8, 8, 1)
    assert (data.image == 7).all()
    assert len(data.splits["test"]) == 4  # the set has no test split, so a fifth is held out


def test_an_unknown_set_is_refused_with_the_nearest_name(prepared):
    assert refusal(sources.tfds, dataset="fashion_mnits", data_dir=str(prepared)).endswith(
        "no such TFDS set. Did you mean 'fashion_mnist'?"
    )


def test_a_set_that_is_not_prepared_is_refused_at_once_with_the_command(prepared, monkeypatch):
    def unreachable(*_, **__):
        raise AssertionError("reading a data set must not reach for the network")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    message = refusal(sources.tfds, dataset="mnist", data_dir=str(prepared))
    assert f"not prepared, looked in {prepared}/mnist/" in message
    assert f"`python launch.py prepare mnist --data_dir={prepared}`" in message


def test_the_default_folder_is_that_of_tfds(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert f"looked in {tmp_path}/mnist/" in refusal(sources.tfds, dataset="mnist")


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("tiny_any_size", {}, r"its images differ in size \(None, None, 1\). Set data.size"),
        ("tiny_without_label", {}, r"needs features image and label, has \['image', 'kind'\]"),
        ("tiny_blocks/other", {}, "tiny_blocks/other"),
    ],
)
def test_sets_that_make_no_array_are_refused(prepared, dataset, options, message):
    assert re.search(message, refusal(sources.tfds, dataset=dataset, data_dir=str(prepared), **options))


def test_a_set_too_large_for_memory_is_streamed_or_refused(prepared, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # else the cache of another test answers
    options = {"dataset": "tiny_blocks", "data_dir": str(prepared)}
    message = refusal(sources.tfds, **options, max_bytes=49 * 64 - 1, stream=False)
    assert "3,136 bytes do not fit data.max_bytes = 3,135" in message
    streamed = sources.tfds(**options, max_bytes=49 * 64 - 1)
    held = sources.tfds(**options, max_bytes=49 * 64)
    assert isinstance(held.image, np.ndarray)
    assert not isinstance(streamed.image, np.ndarray)
    np.testing.assert_array_equal(streamed.image[:], held.image)
    np.testing.assert_array_equal(streamed.label, held.label)
    assert streamed.classes == held.classes
    assert {split: list(ids) for split, ids in streamed.splits.items()} == {
        split: list(ids) for split, ids in held.splits.items()
    }
    assert "once, to find each later" in capsys.readouterr().err


def test_what_is_held_in_the_cache_is_streamed_where_that_is_asked_for(prepared, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = {"dataset": "tiny_blocks", "data_dir": str(prepared), "size": 8}
    assert isinstance(sources.tfds(**options).image, np.ndarray)
    assert isinstance(sources.tfds(**options).image, np.ndarray)  # of the cache
    assert sources.tfds(**options, random_area=0.5).image.random_area == 0.5
    assert not isinstance(sources.tfds(**options, max_bytes=1000).image, np.ndarray)
    assert "do not fit data.max_bytes = 1,000" in refusal(sources.tfds, **options, max_bytes=1000, stream=False)


def test_a_stream_and_an_array_of_several_shards_have_one_order(monkeypatch, tmp_path):
    import tensorflow_datasets as tfds

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny_shards",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(8, 8, 1)), "label": tfds.features.ClassLabel(num_classes=2)}
        ),
        split_datasets={
            "train": ((index, {"image": tiny_image("train", index), "label": index % 2}) for index in range(80))
        },
        data_dir=tmp_path,
        download_config=tfds.download.DownloadConfig(num_shards=2),
    )
    held, streamed = (
        sources.tfds(dataset="tiny_shards", data_dir=str(tmp_path), stream=stream) for stream in (False, True)
    )
    assert len(list((tmp_path / "tiny_shards" / "1.0.0").glob("*tfrecord-0000*"))) == 2
    np.testing.assert_array_equal(held.label, streamed.label)
    np.testing.assert_array_equal(held.image, streamed.image[:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"random_area": 0.1, "stream": False, "size": 8}, "data.random_area = 0.1 crops as a stream is decoded"),
        ({"random_area": 0.1}, "it needs data.size"),
        ({"crop": 0.5}, "data.crop = 0.5 is a share above 0 of what data.size says"),
        ({"crop": 0.0, "size": 8}, "data.crop = 0.0 is a share above 0"),
    ],
)
def test_keys_of_a_stream_that_do_not_fit_each_other(prepared, options, message):
    assert message in refusal(sources.tfds, dataset="tiny_blocks", data_dir=str(prepared), **options)


def test_another_split_may_be_the_test_split(tmp_path, monkeypatch):
    """As of imagenet2012, whose test split has no labels."""
    import tensorflow_datasets as tfds

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sizes = {"train": 30, "validation": 6, "test": 9}

    def examples(split: str):
        for index in range(sizes[split]):
            yield index, {"image": tiny_image(split, index), "label": -1 if split == "test" else index % 3}

    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny_unlabelled",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(8, 8, 1)), "label": tfds.features.ClassLabel(names=["a", "b", "c"])}
        ),
        split_datasets={split: examples(split) for split in sizes},
        data_dir=tmp_path,
        disable_shuffling=True,
    )
    options = {"dataset": "tiny_unlabelled", "data_dir": str(tmp_path)}
    for stream in (False, True, None):  # an index of the stream and the arrays are kept beside each other
        data = sources.tfds(**options, stream=stream, test_split="validation", validation=0.2)
        assert {split: len(ids) for split, ids in data.splits.items()} == {"train": 24, "validation": 6, "test": 6}
        np.testing.assert_array_equal(
            data.image[data.splits["test"]], [tiny_image("validation", index) for index in range(6)]
        )
    assert "test_split = 'tset': tiny_unlabelled has test, validation. Name one" in refusal(
        sources.tfds, **options, test_split="tset"
    )
    assert "-1" in (message := refusal(sources.tfds, **options)) or "has no labels" in message


def test_a_set_is_prepared_where_there_is_a_network(prepared, tmp_path):
    assert "is there already" in prepare_set("tiny_blocks", prepared)
    assert "there is no network here" in refusal(prepare_set, "mnist", tmp_path)
    assert "no such TFDS set" in refusal(prepare_set, "mnits", tmp_path)
