"""Folders of pictures and CSVs as data sets: what is found, what becomes of it, what is reported."""

import os
import pathlib
import re
import warnings

import numpy as np
import pytest
from PIL import Image

from jaxrec.data import pictures, sources, survey
from jaxrec.data.batches import Dataset
from jaxrec.data.duplicates import difference_hash
from jaxrec.data.folders import folder, listed
from jaxrec.errors import InputError
from jaxrec.machine.folders import cache_folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def write(path: pathlib.Path, seed: int = 0, size: tuple[int, int] = (6, 5), channels: int = 3) -> np.ndarray:
    """Writes a picture of noise, and returns its pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, channels), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(path)
    return pixels


def classes(root: pathlib.Path, counts: dict[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    """Writes `class/number.png`, all different; returns their pixels by name."""
    names = [f"{name}/{index}.png" for name, count in counts.items() for index in range(count)]
    return {name: write(root / name, seed + index) for index, name in enumerate(names)}


def images_by_name(data: Dataset, path: pathlib.Path) -> dict[str, np.ndarray]:
    return dict(zip(listed(str(path)).files.names, data.image, strict=True))


# ---- layouts


def test_a_folder_for_each_class(tmp_path):
    wanted = classes(tmp_path, {"cat": 10, "dog": 20})
    data = folder(path=str(tmp_path))
    assert (data.image.shape, data.image.dtype) == ((30, 6, 5, 3), np.uint8)
    assert data.classes == ("cat", "dog")
    assert (data.label == [0] * 10 + [1] * 20).all()
    assert data.label.dtype == np.int32
    found = images_by_name(data, tmp_path)
    assert set(found) == set(wanted)
    for name, image in found.items():
        np.testing.assert_array_equal(image, wanted[name])


def test_splits_are_held_out_by_class_as_of_any_set(tmp_path):
    """The same examples as of an `.npz` of the same labels."""
    classes(tmp_path / "set", {"cat": 20, "dog": 40})
    data = folder(path=str(tmp_path / "set"), validation=0.25, split_seed=3)
    np.savez(tmp_path / "set.npz", x_train=data.image, y_train=data.label)
    other = sources.npz(path=str(tmp_path / "set.npz"), validation=0.25, split_seed=3)
    assert {split: np.bincount(data.label[ids]).tolist() for split, ids in data.splits.items()} == {
        "train": [12, 24],
        "validation": [4, 8],
        "test": [4, 8],
    }
    for split, ids in other.splits.items():
        np.testing.assert_array_equal(data.splits[split], ids)


def test_classes_and_files_are_in_natural_order(tmp_path):
    for name in ("10", "2", "1", "a10", "a9", "B"):
        for index in (1, 10, 2):
            write(tmp_path / name / f"img{index}.png", index)
    listing = listed(str(tmp_path))
    assert listing.classes == ("1", "2", "10", "a9", "a10", "B")
    assert listing.files.names[:3] == ("1/img1.png", "1/img2.png", "1/img10.png")


@pytest.mark.parametrize("validation", ["val", "valid", "Validation"])
def test_folders_of_splits(tmp_path, validation):
    for index, split in enumerate(("train", validation, "test")):
        classes(tmp_path / split, {"cat": 4 - index, "dog": 3}, seed=100 * index)
    data = folder(path=str(tmp_path))
    assert {split: len(ids) for split, ids in data.splits.items()} == {"train": 7, "validation": 6, "test": 5}
    names = listed(str(tmp_path)).files.names
    assert all(names[index].startswith("test/") for index in data.splits["test"])
    assert [data.classes[label] for label in data.label] == [name.split("/")[1] for name in names]


def test_a_split_that_is_missing_is_held_out_of_train_alone(tmp_path):
    classes(tmp_path / "train", {"cat": 10, "dog": 10})
    classes(tmp_path / "test", {"cat": 3, "dog": 3}, seed=100)
    data = folder(path=str(tmp_path), validation=0.2)
    assert {split: len(ids) for split, ids in data.splits.items()} == {"train": 16, "validation": 4, "test": 6}
    assert folder(path=str(tmp_path), validation=0).splits.keys() == {"train", "test"}


def test_a_class_may_be_called_train(tmp_path):
    classes(tmp_path, {"bus": 10, "train": 10})
    assert folder(path=str(tmp_path)).classes == ("bus", "train")


def test_pictures_in_no_class_have_no_label(tmp_path):
    for index in range(10):
        write(tmp_path / f"{index}.png", index)
    data = folder(path=str(tmp_path))
    assert set(data.arrays) == {"image"}
    assert data.classes == ()
    assert {split: len(ids) for split, ids in data.splits.items()} == {"train": 7, "validation": 1, "test": 2}


def test_a_class_takes_in_the_folders_below_it(tmp_path):
    for name in ("cat/1.png", "cat/old/2.png", "cat/old/more/3.png", "dog/1.png"):
        write(tmp_path / name)
    listing = listed(str(tmp_path))
    assert listing.files.names == ("cat/1.png", "cat/old/2.png", "cat/old/more/3.png", "dog/1.png")
    assert listing.label.tolist() == [0, 0, 0, 1]


def test_what_file_managers_leave_is_ignored_and_counted(tmp_path):
    classes(tmp_path, {"cat": 1, "dog": 1})
    left = (".DS_Store", "cat/Thumbs.db", "cat/desktop.ini", "dog/.hidden.png", "README.md", "dog/notes.txt", "x.bin")
    for name in left:
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / ".git").mkdir()
    listing = listed(str(tmp_path))
    assert listing.files.names == ("cat/0.png", "dog/0.png")
    assert sorted(listing.ignored) == sorted((*left, ".git"))


def test_names_of_any_bytes_are_read(tmp_path):
    classes(tmp_path, {"a": 8, "b": 8})
    for index, name in enumerate((b"\xff", b"two\nlines", "schön".encode())):
        target = pathlib.Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"/" + name + b".png"))
        write(tmp_path / "a/x.png", 100 + index)
        (tmp_path / "a/x.png").rename(target)
    assert len(folder(path=str(tmp_path)).image) == 19


def test_links_within_the_folder_are_followed(tmp_path):
    wanted = write(tmp_path / "cat/1.png")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog/2.png").symlink_to("../cat/1.png")
    listing = listed(str(tmp_path))
    np.testing.assert_array_equal(pictures.read_picture(listing.files.path(1), channels=3), wanted)


def test_files_are_read_by_number(tmp_path):
    classes(tmp_path, {"cat": 1, "dog": 1})
    files = listed(str(tmp_path)).files
    assert len(files) == 2
    assert files.name(1) == str(tmp_path / "dog/0.png")
    assert files.read(1) == (tmp_path / "dog/0.png").read_bytes()
    (tmp_path / "dog/0.png").unlink()
    with pytest.raises(InputError, match=r"dog/0.png: cannot be read \(No such file"):
        files.read(1)


# ---- CSVs


def table(root: pathlib.Path, text: str, encoding: str = "utf-8") -> str:
    (root / "set.csv").write_text(text, encoding=encoding)
    return str(root / "set.csv")


ROWS = "in/0.png,dog\nin/1.png,cat\nin/2.png,dog\n"


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        "path,label\n" + ROWS,
        "File,Class\n\n" + ROWS,
        "label,extra,filename\ndog,1,in/0.png\ncat,,in/1.png\ndog,3,in/2.png\n",
        ROWS.replace("\n", "\r\n"),
        '"in/0.png", dog\n./in/1.png,cat\n in/2.png ,"dog"',
    ],
    ids=["bare", "header", "other header", "other order", "line ends", "quotes and spaces"],
)
def test_a_csv_names_pictures_and_labels(tmp_path, text):
    wanted = [write(tmp_path / f"in/{index}.png", index) for index in range(3)]
    for encoding in ("utf-8", "utf-8-sig"):
        listing = listed(table(tmp_path, text, encoding))
        assert listing.classes == ("cat", "dog")
        found = {
            pathlib.PurePosixPath(name).name: label
            for name, label in zip(listing.files.names, listing.label, strict=True)
        }
        assert found == {"0.png": 1, "1.png": 0, "2.png": 1}
    np.testing.assert_array_equal(pictures.read_picture(listing.files.path(0), channels=3), wanted[1])


@pytest.mark.parametrize("header", ["", "path,label,split\n"])
def test_a_csv_may_have_splits(tmp_path, header):
    classes(tmp_path, {"a": 6, "b": 6})
    splits = ["train", "train", "train", "val", "test", "test"]
    text = header + "".join(f"{c}/{index}.png,{c},{split}\n" for c in "ab" for index, split in enumerate(splits))
    data = folder(path=table(tmp_path, text))
    assert {split: len(ids) for split, ids in data.splits.items()} == {"train": 6, "validation": 2, "test": 4}


def test_a_csv_of_paths_alone_has_no_labels(tmp_path):
    for index in range(10):
        write(tmp_path / f"{index}.png", index)
    data = folder(path=table(tmp_path, "path\n" + "".join(f"{index}.png\n" for index in range(10))))
    assert set(data.arrays) == {"image"}


# ---- what becomes of the pictures


def test_kinds_of_pictures_become_the_models_channels(tmp_path):
    for index, name in enumerate("ab"):
        write(tmp_path / name / "grey.png", index, channels=1)
        write(tmp_path / name / "colour.bmp", 10 + index)
        write(tmp_path / name / "colour.webp", 20 + index)
        write(tmp_path / name / "grey.tif", 30 + index, channels=1)
    for channels in (1, 3):
        data = folder(path=str(tmp_path), channels=channels, validation=0)
        assert data.image.shape == (8, 6, 5, channels)
        for name, image in images_by_name(data, tmp_path).items():
            np.testing.assert_array_equal(image, pictures.read_picture(tmp_path / name, channels=channels))


@pytest.mark.parametrize(("size", "shape"), [(4, (4, 4)), ((4, 8), (4, 8)), ([8, 4], (8, 4))])
def test_pictures_of_any_size_are_resized(tmp_path, size, shape):
    for index in range(12):
        write(tmp_path / f"{'ab'[index % 2]}/{index}.png", index, size=(5 + index, 20 - index))
    data = folder(path=str(tmp_path), size=size, crop=0.9, validation=0.25)
    assert data.image.shape == (12, *shape, 3)
    for name, image in images_by_name(data, tmp_path).items():
        np.testing.assert_array_equal(image, pictures.read_picture(tmp_path / name, channels=3, size=shape, crop=0.9))


def test_animated_pictures_are_counted_in_one_line(tmp_path):
    classes(tmp_path, {"a": 8, "b": 8})
    for index in (2, 5):
        frames = [Image.fromarray(np.full((6, 5), shade, np.uint8)) for shade in (50 + index, 200)]
        frames[0].save(tmp_path / f"a/{index}.gif", save_all=True, append_images=frames[1:])
    for _ in range(2):  # the second time from the cache
        with pytest.warns(UserWarning, match=r"of 2 animated pictures or several pages, such as .*a/2.gif, the first"):
            folder(path=str(tmp_path))


# ---- the cache


@pytest.fixture
def decoded(monkeypatch) -> list[pathlib.Path]:
    """The paths of the pictures that are decoded."""
    paths = []

    def noted(path, **options):
        paths.append(path)
        return pictures.decode_picture(path, **options)

    monkeypatch.setattr(survey, "decode_picture", noted)
    return paths


def test_the_second_time_no_picture_is_opened(tmp_path, decoded, monkeypatch):
    classes(tmp_path, {"a": 8, "b": 8})
    first = folder(path=str(tmp_path))
    assert len(decoded) == 16
    monkeypatch.setattr(survey, "stored_size", lambda path: pytest.fail("opened"))
    second = folder(path=str(tmp_path), validation=0.3)
    assert len(decoded) == 16
    np.testing.assert_array_equal(first.image, second.image)


def test_a_long_look_says_how_far_it_is(tmp_path, monkeypatch, capsys):
    classes(tmp_path, {"a": 8, "b": 8})
    monkeypatch.setattr(survey, "AT_A_TIME", 4)
    folder(path=str(tmp_path), size=6)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(survey, "SILENT", -1)
    folder(path=str(tmp_path), size=4)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"{tmp_path}: {count} of 16 files looked at." for count in (4, 8, 12, 16)]


def touched(path: pathlib.Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda root: touched(root / "a/0.png"),
        lambda root: write(root / "a/0.png", 99),
        lambda root: write(root / "a/new.png", 99),
        lambda root: (root / "a/0.png").rename(root / "a/00.png"),
        lambda root: (root / "a/0.png").rename(root / "b/new.png"),
        lambda root: (root / "a/0.png").unlink(),
    ],
    ids=["touched", "written", "added", "renamed", "moved", "removed"],
)
def test_a_changed_folder_never_meets_an_old_cache(tmp_path, decoded, change):
    classes(tmp_path, {"a": 8, "b": 8})
    folder(path=str(tmp_path))
    change(tmp_path)
    decoded.clear()
    data = folder(path=str(tmp_path))
    assert len(decoded) == len(data.image)
    for name, image in images_by_name(data, tmp_path).items():
        np.testing.assert_array_equal(image, pictures.read_picture(tmp_path / name, channels=3))


@pytest.mark.parametrize("options", [{"size": 4}, {"size": 4, "crop": 0.5}, {"channels": 1}])
def test_other_pixels_are_another_cache(tmp_path, decoded, options):
    classes(tmp_path, {"a": 8, "b": 8})
    folder(path=str(tmp_path))
    folder(path=str(tmp_path), **options)
    assert len(decoded) == 32


def test_a_damaged_cache_is_made_anew_and_that_is_said(tmp_path, decoded):
    classes(tmp_path, {"a": 8, "b": 8})
    first = folder(path=str(tmp_path))
    (cache,) = (cache_folder() / "datasets").glob("folder-*.npz")
    cache.write_bytes(cache.read_bytes()[:1000])
    with pytest.warns(UserWarning, match=re.escape(f"{cache}: a damaged cache")):
        second = folder(path=str(tmp_path))
    np.testing.assert_array_equal(first.image, second.image)
    assert len(decoded) == 32
    folder(path=str(tmp_path))
    assert len(decoded) == 32


# ---- files that are left out


def spoil(root: pathlib.Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"no picture")


def test_bad_files_are_left_out_where_that_is_asked_for(tmp_path):
    wanted = classes(tmp_path, {"a": 10, "b": 10})
    spoil(tmp_path, "a/10.png", "b/3.png")
    wanted.pop("b/3.png")
    for _ in range(2):  # the second time from the cache
        with pytest.warns(UserWarning, match=r"2 of 21 files are left out, in no split: .*a/10.png: .*b/3.png: "):
            data = folder(path=str(tmp_path), on_bad="skip")
        assert len(data.skipped) == 2
        assert all(re.search("a/10.png: no picture|b/3.png: no picture", line) for line in data.skipped)
        # What is left has its own picture and label, and each is in one split.
        names = [name for name in listed(str(tmp_path)).files.names if name in wanted]
        assert len(data.image) == len(names) == 19
        for name, image, label in zip(names, data.image, data.label, strict=True):
            np.testing.assert_array_equal(image, wanted[name])
            assert data.classes[label] == name[0]
        assert sorted(np.concatenate(list(data.splits.values()))) == list(range(19))


def test_nothing_is_left_out_of_an_evaluation(tmp_path):
    for split in ("train", "test"):
        classes(tmp_path / split, {"a": 10, "b": 10}, seed=100 * len(split))
    spoil(tmp_path, "train/a/x.png", "test/b/x.png")
    for on_bad in ("skip", "error"):
        with pytest.raises(InputError, match=r"test/b/x\.png") as caught:
            folder(path=str(tmp_path), on_bad=on_bad)
        assert "on_bad" not in str(caught.value)
    (tmp_path / "test/b/x.png").unlink()
    with pytest.raises(InputError, match=r"train/a/x.png: no picture.* data.on_bad = 'skip' leaves such files out."):
        folder(path=str(tmp_path))
    with pytest.warns(UserWarning, match="1 of 41 files are left out"):
        data = folder(path=str(tmp_path), on_bad="skip", validation=0)
    assert {split: len(ids) for split, ids in data.splits.items()} == {"train": 20, "test": 20}


def test_all_bad_files_are_found_at_once(tmp_path):
    classes(tmp_path, {"a": 10, "b": 10})
    spoil(tmp_path, *(f"b/bad{index}.png" for index in range(7)))
    with pytest.raises(InputError, match=r"bad0.png: no picture.* So are 6 more: .*bad1.png, .*bad2.png, \.\.\."):
        folder(path=str(tmp_path))


# ---- duplicates


def said(path: pathlib.Path, **options) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        folder(path=str(path), **options)
    return [str(warning.message) for warning in caught]


def two_splits(root: pathlib.Path) -> None:
    classes(root / "train", {"a": 5, "b": 5})
    classes(root / "test", {"a": 5, "b": 5}, seed=100)


def test_the_same_picture_in_two_splits_is_reported(tmp_path):
    two_splits(tmp_path)
    assert said(tmp_path, validation=0) == []
    for target in ("a/copy1.png", "a/copy2.png"):
        (tmp_path / "test" / target).write_bytes((tmp_path / "train/a/3.png").read_bytes())
    (line,) = said(tmp_path, validation=0)
    assert "2 of 12 pictures of test are in train as well (the same pictures), such as " in line
    assert f"{tmp_path}/test/a/copy1.png and {tmp_path}/train/a/3.png" in line


def test_one_picture_under_two_labels_is_reported(tmp_path):
    classes(tmp_path / "train", {"a": 5, "b": 5})
    classes(tmp_path / "test", {"a": 5, "b": 5}, seed=100)
    (tmp_path / "train/b/x.png").write_bytes((tmp_path / "train/a/3.png").read_bytes())
    (line,) = said(tmp_path, validation=0)
    assert (
        f"1 of 21 pictures have two labels, such as {tmp_path}/train/a/3.png, which is {tmp_path}/train/b/x.png" in line
    )


def photo(seed: int, size: int = 64) -> Image.Image:
    shades = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    return Image.fromarray(shades).resize((size, size), Image.Resampling.BICUBIC)


def test_nearly_the_same_pictures_are_found_on_demand(tmp_path):
    for split, start in (("train", 0), ("test", 100)):
        for index in range(10):
            path = tmp_path / split / "ab"[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            photo(start + index).save(path)
    again = photo(3, 200)  # another size and compression
    again.save(tmp_path / "test/b/again.jpg", quality=60)
    assert said(tmp_path, size=32, validation=0) == []
    (line,) = said(tmp_path, size=32, validation=0, near_duplicates=True)
    assert "1 of 11 pictures of test are in train as well (nearly the same)" in line
    assert f"{tmp_path}/test/b/again.jpg and {tmp_path}/train/b/3.png" in line
    (tmp_path / "test/b/same.png").write_bytes((tmp_path / "train/b/5.png").read_bytes())
    assert len(said(tmp_path, size=32, validation=0, near_duplicates=True)) == 2  # each is counted once


def test_the_difference_hash_says_which_neighbour_is_lighter():
    ramp = np.tile(np.arange(9, dtype=np.uint8) * 20, (8, 1))[None, ..., None]
    found = difference_hash(np.concatenate([ramp, ramp[:, :, ::-1], ramp[:, ::-1]]))
    assert found.tolist() == [2**64 - 1, 0, 2**64 - 1]
    noise = np.random.default_rng(0).integers(0, 256, (50, 8, 9, 1), np.uint8)
    bits = (noise[:, :, 1:, 0] > noise[:, :, :-1, 0]).reshape(50, 64)
    apart = np.bitwise_count(difference_hash(noise)[:, None] ^ difference_hash(noise)[None])
    np.testing.assert_array_equal(apart, (bits[:, None] != bits[None]).sum(-1))


# ---- streams


@pytest.mark.parametrize("options", [{"stream": True}, {"max_bytes": 30 * 6 * 5 * 3 - 1}])
def test_a_folder_that_does_not_fit_is_streamed(tmp_path, options):
    classes(tmp_path, {"cat": 10, "dog": 20})
    spoil(tmp_path, "cat/10.png")
    with pytest.warns(UserWarning, match="1 of 31 files are left out"):
        held = folder(path=str(tmp_path), on_bad="skip", size=(6, 5))
    with pytest.warns(UserWarning, match="1 of 31 files are left out"):
        streamed = folder(path=str(tmp_path), on_bad="skip", size=(6, 5), **options)
    assert not isinstance(streamed.image, np.ndarray)
    np.testing.assert_array_equal(streamed.image[:], held.image)
    np.testing.assert_array_equal(streamed.label, held.label)
    for split, ids in held.splits.items():
        np.testing.assert_array_equal(streamed.splits[split], ids)


def test_a_stream_has_no_array_to_compare(tmp_path):
    classes(tmp_path, {"cat": 10, "dog": 20})
    with pytest.raises(InputError, match=r"data\.near_duplicates compares images in memory"):
        folder(path=str(tmp_path), stream=True, near_duplicates=True)
    with pytest.raises(InputError, match=r"do not fit data\.max_bytes = 100"):
        folder(path=str(tmp_path), stream=False, max_bytes=100)
