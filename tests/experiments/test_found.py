"""A folder of pictures through the launcher: what show_data says of it, and a run on it."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

import experiments.found
import launch
from experiments.found import found
from jaxrec.data.folders import listed

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    f"--config={ROOT}/configs/digits_cnn.py",
    "--config.model.widths=(4,)",
    "--config.model.hidden=(8,)",
    "--config.train.batch_size=16",
    "--config.train.epochs=None",
    "--config.train.steps=1",
)


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> pathlib.Path:
    """Two classes in train and test; shades say which picture it is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for split, counts in (("train", (8, 10)), ("test", (2, 3))):
        for name, count in zip(("cat", "dog"), counts, strict=True):
            for index in range(count):
                shade = 100 * (name == "dog") + 10 * index + 5 * (split == "test")
                path = tmp_path / "set" / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((8 + index, 12 - index, 3), shade, np.uint8)).save(path)
    (tmp_path / "set/.DS_Store").write_bytes(b"?")
    (tmp_path / "set/train/notes.txt").write_bytes(b"?")
    return tmp_path / "set"


def section(folder: pathlib.Path, **options) -> str:
    return f"--config.data={ {'name': 'folder', 'path': str(folder), 'size': 8, **options} }"


def test_what_was_found_is_a_table(pictures, tmp_path):
    (pictures / "train/cat/bad.png").write_bytes(b"?")
    assert found(listed(str(pictures)), tmp_path / "found.png", None).splitlines() == [
        "                train        test",
        "cat                 9           2",
        "dog                10           3",
        "2 classes          19           5",
        "height x width: smallest 17 x 3, train/dog/9.png; median 12 x 8; largest 10 x 10, test/dog/2.png",
        f"no readable pictures: 1, such as {pictures}/train/cat/bad.png: no picture, or one whose header is damaged. "
        "Allowed are JPEG, PNG, BMP, GIF, WEBP, TIFF.",
        "ignored: 2, .DS_Store, train/notes.txt",
    ]
    with Image.open(tmp_path / "found.png") as sheet:
        assert sheet.width > experiments.found.COLUMNS * experiments.found.THUMB


def test_the_sheet_shows_each_class_and_the_smallest_and_largest(pictures, tmp_path, monkeypatch):
    (pictures / "train/cat/00.png").write_bytes(b"?")  # a picture that cannot be shown leaves no gap
    sheets = {}
    monkeypatch.setattr(experiments.found, "contact_sheet", lambda path, rows: sheets.update({path: rows}))
    found(listed(str(pictures)), tmp_path / "found.png", (6, 6))
    rows = sheets[tmp_path / "found.png"]
    assert list(rows) == ["(smallest)", "(largest)", "cat", "dog"]
    assert {images.shape for images in rows.values()} == {(8, 6, 6, 3)}
    shades = {title: images[:, 0, 0, 0].tolist() for title, images in rows.items()}
    assert shades["cat"] == [0, 10, 20, 30, 40, 50, 60, 70]
    assert shades["(smallest)"][:2] == [190, 180]
    assert shades["(largest)"][0] == 125


def test_pictures_in_no_class_have_a_table_and_a_sheet_too(tmp_path):
    for index in range(10):
        Image.fromarray(np.full((8, 8), 20 * index, np.uint8)).save(tmp_path / f"{index}.png")
    text = found(listed(str(tmp_path)), tmp_path / "found.png", None)
    assert text.splitlines()[:2] == ["               train", "pictures          10"]


def test_of_many_classes_and_files_some_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments.found, "LINES", 2)
    monkeypatch.setattr(experiments.found, "HEADERS", 4)
    for name in "abcd":
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(3):
            Image.fromarray(np.full((8, 8), 20 * index, np.uint8)).save(tmp_path / f"set/{name}/{index}.png")
    text = found(listed(str(tmp_path / "set")), tmp_path / "found.png", None)
    assert "\n... 2 more classes\n4 classes                   12\n" in text
    assert "height x width of 4 of 12 files: smallest 8 x 8" in text


def test_show_data_says_what_is_in_a_folder(pictures, tmp_path, capsys):
    assert launch.main(["show_data", *SMALL, section(pictures), f"--workdir={tmp_path}/out"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["found.png", "show_data.png"]
    printed = capsys.readouterr().out
    assert "2 classes          18           5" in printed
    assert "Examples: train 16, validation 2, test 5" in printed


def test_show_data_shows_what_a_refused_folder_holds(pictures, tmp_path, capsys):
    (pictures / "test/cat/bad.png").write_bytes(b"")
    assert launch.main(["show_data", *SMALL, section(pictures), f"--workdir={tmp_path}/out"]) == 2
    printed = capsys.readouterr()
    assert "2 classes          18           6" in printed.out
    assert f"{pictures}/test/cat/bad.png: an empty file, 0 bytes" in printed.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["found.png"]


def test_a_run_on_a_folder_notes_classes_and_what_was_left_out(pictures, tmp_path, capsys):
    (pictures / "train/cat/bad.png").write_bytes(b"")
    command = [*SMALL, section(pictures), f"--workdir={tmp_path}/run"]
    assert launch.main(command) == 2
    assert f"launch.py: {pictures}/train/cat/bad.png: an empty file" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="1 of 24 files are left out"):
        assert launch.main([*command[:-2], section(pictures, on_bad="skip"), command[-1]]) == 0
    notes = json.loads((tmp_path / "run" / "data.json").read_text())
    assert notes["classes"] == ["cat", "dog"]
    (line,) = notes["skipped"]
    assert line.startswith(f"{pictures}/train/cat/bad.png: an empty file")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["notes"]["skipped"] == [line]


def test_a_mistyped_key_of_a_folder_is_refused_at_once(tmp_path, capsys):
    for options, line in (
        ({"on_bda": "skip"}, "Did you mean 'on_bad'?"),
        ({"channels": 4}, "allowed is 1, 3."),
        ({"size": 0}, "config.data.size = 0: allowed is"),
        ({"crop": 1.5}, "config.data.crop = 1.5: allowed is a number from 0 to 1"),
    ):
        assert launch.main([*SMALL, section(tmp_path, **options)]) == 2
        assert line in capsys.readouterr().err
