"""Bad pictures, folders, CSVs and TFDS sets: each is one line that names what is wrong, before anything is trained."""

import io
import os
import pathlib
import re
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from jaxrec.data.folders import folder
from jaxrec.errors import InputError

NOISE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def encoded(kind: str = "PNG", pixels: np.ndarray = NOISE, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def good(root: pathlib.Path, *classes: str, count: int = 10) -> None:
    """Writes pictures that are all different."""
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng((place, index)).integers(0, 256, (16, 16, 3), np.uint8)
            (root / name / f"{index}.png").write_bytes(encoded(pixels=pixels))


def line_of(read: Callable, *arguments, **options) -> str:
    """The one line that a call is refused with; nothing else escapes, no warning either."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            read(*arguments, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert line.isprintable()
    return line


# ---- files, each in a class folder beside good ones


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header says this size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bmp_of(width: int, height: int) -> bytes:
    data = bytearray(encoded("BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def gif_of(width: int, height: int) -> bytes:
    data = bytearray(encoded("GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


NO_PICTURE = "no picture, or one whose header is damaged. Allowed are JPEG, PNG, BMP, GIF, WEBP, TIFF."
CUT_SHORT = r"cannot be decoded \(.*\). Replace the file or take it out."
FILES = {
    "0 bytes": (b"", "an empty file, 0 bytes"),
    "one byte": (b"\x89", NO_PICTURE),
    "text": (b"a cat", NO_PICTURE),
    "an error page": (b"<!DOCTYPE html><title>404</title>", NO_PICTURE),
    "zeros": (bytes(5000), NO_PICTURE),
    "a drawing": (b'<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16"/>', NO_PICTURE),
    "a film": (b"\0\0\0\x18ftypmp42" + bytes(500), NO_PICTURE),
    "an archive": (b"PK\x03\x04" + bytes(500), NO_PICTURE),
    "another format": (encoded("PPM"), NO_PICTURE),
    "a signature": (encoded()[:8], NO_PICTURE),
    "half a PNG": (half(encoded()), CUT_SHORT),
    "half a JPEG": (half(encoded("JPEG")), CUT_SHORT),
    "half a BMP": (half(encoded("BMP")), CUT_SHORT),
    "half a GIF": (half(encoded("GIF")), f"{CUT_SHORT}|{NO_PICTURE}"),
    "half a WebP": (half(encoded("WEBP")), f"{CUT_SHORT}|{NO_PICTURE}"),
    "half a TIFF": (half(encoded("TIFF")), f"{CUT_SHORT}|{NO_PICTURE}"),
    "a PNG with a flipped byte": (flipped(encoded(), 60), CUT_SHORT),
    "a PNG with a flipped header": (flipped(encoded(), 20), NO_PICTURE),
    "a PNG of 30,000 x 30,000": (png_of(30_000, 30_000), "30,000 x 30,000 pixels by its header; 200,000,000 are allow"),
    "a BMP of 30,000 x 30,000": (bmp_of(30_000, 30_000), "30,000 x 30,000 pixels by its header; 200,000,000 are allow"),
    "a GIF of 65,535 x 65,535": (gif_of(65_535, 65_535), "65,535 x 65,535 pixels by its header; 200,000,000 are allow"),
    "floats": (
        encoded("TIFF", NOISE[..., 0].astype(np.float32)),
        "cannot be decoded .32 bits for a pixel, whose range",
    ),
    "32 bits": (encoded("TIFF", NOISE[..., 0].astype(np.int32)), "cannot be decoded .32 bits for a pixel, whose range"),
}


@pytest.mark.parametrize("size", [None, 8], ids=["as it is", "resized"])
@pytest.mark.parametrize(("content", "message"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_picture_is_named(tmp_path, content, message, size):
    good(tmp_path, "cat", "dog")
    bad = tmp_path / "dog" / "5.png"
    bad.write_bytes(content)
    line = line_of(folder, path=str(tmp_path), size=size, on_bad="error")
    assert line.startswith(f"{bad}: ")
    assert re.search(message, line)
    assert line.endswith(" data.on_bad = 'skip' leaves such files out.")


def replace(path: pathlib.Path, by: Callable[[pathlib.Path], object]) -> None:
    path.unlink()
    by(path)


ENTRIES = {
    "a link to nothing": (lambda path: path.symlink_to("gone.png"), "a link that leads nowhere"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "a link that leads nowhere"),
    "a link out of the folder": (lambda path: path.symlink_to(pathlib.Path(__file__)), "a link that leads out"),
    "a relative link out": (lambda path: path.symlink_to("../../" + path.parents[2].name), "a link that leads out"),
    "a link to a folder": (lambda path: path.symlink_to("../cat"), "a link to a folder"),
    "a link round in a circle": (lambda path: path.symlink_to(".."), "a link to a folder"),
    "a pipe": (os.mkfifo, "no regular file"),
}


@pytest.mark.parametrize(("entry", "message"), ENTRIES.values(), ids=ENTRIES)
def test_an_entry_that_is_no_file_is_named(tmp_path, entry, message):
    good(tmp_path / "set", "cat", "dog")
    replace(tmp_path / "set/dog/5.png", entry)
    line = line_of(folder, path=str(tmp_path / "set"), size=8)
    assert line.startswith(f"{tmp_path}/set/dog/5.png: {message}")


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    """A superuser may read all, so that it is the opening that fails here."""
    good(tmp_path, "cat", "dog")
    opened = pathlib.Path.open

    def locked(path: pathlib.Path, *arguments, **options):
        if path.match("dog/5.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(pathlib.Path, "open", locked)
    assert line_of(folder, path=str(tmp_path), size=8).startswith(
        f"{tmp_path}/dog/5.png: cannot be read (Permission denied)."
    )


def test_a_disk_that_fails_is_not_the_files_fault(tmp_path, monkeypatch):
    """Else on_bad = "skip" would leave it out for good."""
    good(tmp_path, "cat", "dog")
    opened = pathlib.Path.open

    def failing(path: pathlib.Path, *arguments, **options):
        if path.match("dog/5.png"):
            raise OSError(5, "Input/output error", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(pathlib.Path, "open", failing)
    line = line_of(folder, path=str(tmp_path), size=8, on_bad="skip")
    assert line == f"{tmp_path}/dog/5.png: cannot be read (Input/output error)."


# ---- folders: how they are made, what the line says of which path


def flat(root: pathlib.Path) -> None:
    good(root.parent, root.name)


def one_more(root: pathlib.Path, name: str, *classes: str) -> None:
    good(root, *classes)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(encoded())


def empty(root: pathlib.Path, name: str, *classes: str) -> None:
    good(root, *classes)
    (root / name).mkdir(parents=True)


def splits(root: pathlib.Path, **classes: tuple[str, ...]) -> None:
    for split, names in classes.items():
        good(root / split, *names)


def hidden(root: pathlib.Path) -> None:
    root.mkdir()
    for name in (".DS_Store", "Thumbs.db", "notes.txt"):
        (root / name).write_bytes(b"?")


AB = ("a", "b")
FOLDERS = {
    "missing": (lambda root: None, {}, r"data.path = '{root}': no such folder or CSV. Looked in {root}\."),
    "an image": (
        lambda root: root.write_bytes(encoded()),
        {},
        "data.path = '{root}': neither a folder of pictures nor",
    ),
    "an archive": (
        lambda root: root.write_bytes(b"PK\x03\x04"),
        {},
        "data.path = '{root}': neither .* Unpack an archi",
    ),
    "empty": (lambda root: root.mkdir(), {}, "{root}: a folder without pictures"),
    "only hidden files": (hidden, {}, "{root}: a folder without pictures"),
    "one class": (lambda root: good(root, "cat"), {}, "data.path = '{root}': one class, 'cat': nothing to tell apart"),
    "a class without pictures": (lambda root: empty(root, "c", *AB), {}, "{root}/c: a class folder without pictures"),
    "a class of folders without pictures": (
        lambda root: empty(root, "c/d/e", *AB),
        {},
        "{root}/c: a class folder without pictures",
    ),
    "a picture beside classes": (
        lambda root: one_more(root, "x.png", *AB),
        {},
        "{root}/x.png: a picture beside folders, in no class",
    ),
    "a picture beside splits": (
        lambda root: (splits(root, train=AB, test=AB), (root / "x.JPG").write_bytes(encoded())),
        {},
        "{root}/x.JPG: a picture beside folders, in no class",
    ),
    "a class only in test": (
        lambda root: splits(root, train=AB, test=("a", "b", "c")),
        {},
        "data.path = '{root}': class 'c' of test has no picture in train",
    ),
    "a class only in validation, by a typing error": (
        lambda root: splits(root, train=("cats", "dogs"), val=("cast", "dogs")),
        {},
        "'{root}': class 'cast' of validation has no picture in train.* Did you mean 'cats'?",
    ),
    "classes in train, none in test": (
        lambda root: (splits(root, train=AB), flat(root / "test")),
        {},
        "'{root}': pictures of test lie in no class, others do",
    ),
    "an empty split": (
        lambda root: empty(root, "test", "train/a", "train/b"),
        {},
        "{root}/test: a folder without pict",
    ),
    "splits beside classes": (
        lambda root: splits(root, train=AB, test=AB, other=AB),
        {},
        "data.path = '{root}': test, train beside other",
    ),
    "test without train": (lambda root: splits(root, test=AB), {}, "data.path = '{root}': there is test and no train"),
    "two folders for validation": (
        lambda root: splits(root, train=AB, val=AB, valid=AB),
        {},
        "'{root}': train, val, valid: two folders for one split",
    ),
    "splits below classes": (
        lambda root: good(root, "a/train", "a/test", "b/train", "b/test"),
        {},
        "{root}/a/test: a split below a class. Turn it round, test/a/",
    ),
    "too few of a class": (
        lambda root: one_more(root, "c/0.png", *AB),
        {},
        "'{root}': 21 training examples of 3 classes, 1 of the rarest, are too few .* Add examples, or a test split",
    ),
    "several sizes": (
        lambda root: (good(root, *AB), (root / "b/3.png").write_bytes(encoded(pixels=NOISE[:8]))),
        {},
        r"{root}/b/3.png is 8 x 16 \(height x width\), {root}/a/0.png 16 x 16: .* Set data.size, such as 8",
    ),
    "no picture at all": (
        lambda root: (good(root, *AB, count=2), [file.write_bytes(b"?") for file in root.rglob("*.png")]),
        {},
        "'{root}': none of 4 files is a picture. {root}/a/0.png: no picture",
    ),
    "no picture left": (
        lambda root: (good(root, *AB, count=2), [file.write_bytes(b"?") for file in root.rglob("b/*.png")]),
        {"on_bad": "skip", "size": 8},
        None,
    ),
    "too large for memory": (
        lambda root: good(root, *AB),
        {"size": 64, "max_bytes": 100_000, "stream": False},
        "'{root}': 20 images of 64 x 64 x 3 are 245,760 bytes and do not fit data.max_bytes = 100,000",
    ),
    "three numbers for a size": (
        lambda root: good(root, *AB),
        {"size": (8, 8, 3)},
        r"data.size = \(8, 8, 3\): allowed",
    ),
    "a size that no memory holds": (
        lambda root: good(root, *AB),
        {"size": 100_000},
        "data.size = 100000 makes images of 10,000,000,000 pixels; 200,000,000 are allowed",
    ),
    "a crop of nothing": (lambda root: good(root, *AB), {"size": 8, "crop": 0.0}, "data.crop = 0.0 is a share above 0"),
    "a crop without a size": (
        lambda root: good(root, *AB),
        {"crop": 0.5},
        "data.crop = 0.5 is a share above 0 of what",
    ),
}


@pytest.mark.parametrize(("make", "options", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_cannot_be_meant_is_refused(tmp_path, make, options, message):
    root = tmp_path / "set"
    make(root)
    if message is None:  # what is left out is said as well, before it is found to be all
        with pytest.warns(UserWarning, match="2 of 4 files are left out"), pytest.raises(InputError) as caught:
            folder(path=str(root), **options)
        assert str(caught.value).startswith(f"data.path = '{root}': no readable picture is left of class 'b' in train.")
    else:
        assert re.search(message.replace("{root}", re.escape(str(root))), line_of(folder, path=str(root), **options))


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    good(tmp_path, "a", "b")
    scanned = os.scandir

    def locked(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scanned(path)

    monkeypatch.setattr(os, "scandir", locked)
    assert line_of(folder, path=str(tmp_path)) == (
        f"data.path = '{tmp_path}': cannot be read (Permission denied: {tmp_path}/b)."
    )


def test_a_path_no_system_takes_is_refused():
    assert "cannot be read (File name too long" in line_of(folder, path="x" * 5000)
    assert "no such folder or CSV" in line_of(folder, path="a\0b")


# ---- CSVs: what they hold, what the line says

TABLES = {
    "empty": ("", "set.csv': an empty file"),
    "blank lines": ("\n\n \n", "set.csv': an empty file"),
    "names of columns alone": ("path,label\n", "set.csv': no picture to train on, no line"),
    "no text": (b"a/0.png,\xff\xfe\n", r"set.csv': not UTF-8 text \(invalid start byte at byte 8\)"),
    "an open quote": ('a/0.png,"a\nb/0.png,b\n', "set.csv', line 2: no CSV"),
    "one column without a name": (
        "a/0.png\nb/0.png\n",
        "set.csv', line 1: 1 columns. A CSV has path,label or path,lab",
    ),
    "semicolons": ("a/0.png;a\nb/0.png;b\n", "set.csv', line 1: 1 columns. .*parted by commas"),
    "four columns without names": ("a/0.png,a,train,x\n", "set.csv', line 1: 4 columns. A CSV has path,label or path"),
    "a line too short": ("a/0.png,a\nb/0.png\n", "set.csv', line 2: 1 columns, and line 1 has 2"),
    "a line too long": ("path,label\na/0.png,a\nb/0.png,b,b\n", "set.csv', line 3: 3 columns, and line 1 has 2"),
    "no column for the path": ("label,split\na,train\n", "set.csv', line 1: no column for the path: label, split"),
    "two columns for the label": ("path,label,class\na/0.png,a,a\n", "set.csv', line 1: two columns for label"),
    "unknown names of columns": (
        "bild,art\na/0.png,a\n",
        "line 1: 'bild': no such file, .* If line 1 names the columns",
    ),
    "a path to nothing": (
        "a/0.png,a\nb/99.png,b\n",
        "set.csv', line 2: 'b/99.png': no such file, looked in {root}/b/99",
    ),
    "a path that is empty": ("a/0.png,a\n,b\n", "set.csv', line 2: '' is no path below the folder of the CSV"),
    "a path of two dots": (
        "a/0.png,a\nb/../../x.png,b\n",
        "line 2: 'b/../../x.png' is no path below the folder of the CSV",
    ),
    "two dots within": ("a/0.png,a\nb/../a/1.png,b\n", "line 2: 'b/../a/1.png' is no path below the folder of the CSV"),
    "an absolute path": (
        "a/0.png,a\n{root}/b/0.png,b\n",
        "line 2: '{root}/b/0.png' is no path below the folder of the CS",
    ),
    "a path of two lines": ('a/0.png,a\n"b\n/0.png",b\n', "line 3: 'b.n/0.png': no such file, looked in '{root}/b.n/0"),
    "a path with a zero": ("a/0.png,a\nb/\0.png,b\n", "line 2"),
    "a link out": ("a/0.png,a\nout.png,b\n", "line 2: 'out.png' leads out of the folder of the CSV, by a link"),
    "a folder by a link out": ("a/0.png,a\nup/b/0.png,b\n", "line 2: 'up/b/0.png' leads out of the folder of the CSV"),
    "a folder for a picture": (
        "path,label\na/0.png,a\na/1.png,a\nb/0.png,b\nb/1.png,b\na,a\n",
        "^{root}/a: a folder, and",
    ),
    "a picture twice": ("a/0.png,a\nb/0.png,b\na/0.png,a\n", "line 3: 'a/0.png' is in line 1 as well"),
    "a picture under two labels": ("a/0.png,a\nb/0.png,b\na/0.png,b\n", "line 3: 'a/0.png' is in line 1 as well"),
    "a picture twice, spelled in two ways": ("a/0.png,a\nb/0.png,b\n./a/0.png,b\n", "line 3: .* is in line 1 as well"),
    "an empty label": ("a/0.png,a\nb/0.png,\n", "line 2: 'b/0.png' has no label"),
    "an unknown split": ("a/0.png,a,train\nb/0.png,b,tset\n", "'b/0.png' is of split 'tset'.* Did you mean 'test'?"),
    "an empty split": (
        "a/0.png,a,train\nb/0.png,b,\n",
        "line 2: 'b/0.png' is of split ''; allowed are train, validati",
    ),
    "no train": ("a/0.png,a,test\nb/0.png,b,val\n", "set.csv': no picture to train on, all are of test, validation"),
    "one class": ("a/0.png,a\nb/0.png,a\n", "set.csv': one class, 'a': nothing to tell apart"),
    "a class only in test": (
        "a/0.png,a,train\nb/0.png,b,train\na/1.png,c,test\n",
        "class 'c' of test has no picture in",
    ),
}


@pytest.mark.parametrize(("text", "message"), TABLES.values(), ids=TABLES)
def test_a_csv_that_cannot_be_meant_is_refused(tmp_path, text, message):
    root = tmp_path / "set"
    good(root, "a", "b")
    (tmp_path / "x.png").write_bytes(encoded())
    (root / "out.png").symlink_to("../x.png")
    (root / "up").symlink_to("../set2")
    good(tmp_path / "set2", "a", "b", count=1)
    text = text if isinstance(text, bytes) else text.replace("{root}", str(root)).encode()
    (root / "set.csv").write_bytes(text)
    line = line_of(folder, path=str(root / "set.csv"), size=8)
    assert re.search(message.replace("{root}", re.escape(str(root))), line)
    assert str(root) in line
