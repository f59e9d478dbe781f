"""The pictures that a command line names: files, folders, globs, arrays in an `.npz` file."""

import glob
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from jaxrec.data.directories import PICTURES
from jaxrec.data.listing import natural
from jaxrec.data.npz import UNREADABLE, opened
from jaxrec.data.pictures import shown
from jaxrec.errors import InputError, described

Named = tuple[str, np.ndarray | str]  # what an answer is filed under, and pixels or a path


def named_pictures(words: Sequence[str]) -> tuple[list[Named], int]:
    """All pictures that are named, each once, in the order of the words; those of a folder in natural order.

    Of a folder, and of the folders in it, it is the files that are called as pictures are; hidden ones are left out. Of
    an `.npz` file it is `x_test`, or else the first array of images, filed under "file.npz[0]".

    Args:
      words: paths, and globs (** for any folders) that no shell has expanded.

    Returns:
      (the pictures, how many were named again).

    Raises:
      InputError: a word names nothing, or no pictures.
    """
    found: dict[str, Named] = {}
    again = 0
    for word in words:
        for name, image in _named(word):
            key = os.path.abspath(name)
            again += key in found
            found.setdefault(key, (name, image))
    return list(found.values()), again


def _named(word: str) -> Iterator[Named]:
    """The pictures of one word."""
    if os.path.exists(word):
        names = _of_path(word)
        if not names:
            endings = ", ".join(sorted(PICTURES))
            raise InputError(f"{shown(word)}: a folder without pictures ({endings}). Name another, or put some in.")
    else:
        matches = sorted(glob.glob(word, recursive=True), key=natural)
        names = [named for match in matches for named in _of_path(match)]  # some may be folders of other things
        if not names:
            wanted = "this pattern matches no pictures" if glob.has_magic(word) else "no such file or folder"
            raise InputError(f"{shown(word)}: {wanted}. Name pictures, folders of them, or an .npz file.")
    yield from names


def _of_path(word: str) -> list[Named]:
    """The pictures of a path that is there; none of a folder that has none."""
    path = pathlib.Path(word)
    if path.is_dir():
        return [(name, name) for name in _below(word)]
    if path.suffix == ".npz":
        return [(f"{word}[{index}]", image) for index, image in enumerate(_array(path))]
    return [(word, word)]


def _below(folder: str) -> Iterator[str]:
    """The paths of the pictures in a folder and below, in natural order."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{shown(error.filename)}: a folder that cannot be read ({error.strerror}).") from None

    for where, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=natural)
        for file in sorted(files, key=natural):
            if pathlib.PurePath(file).suffix.lower() in PICTURES and not file.startswith("."):
                yield os.path.join(where, file)


def _array(path: pathlib.Path) -> np.ndarray:
    """The images of an `.npz` file."""
    try:
        with opened(path) as file:
            for name in sorted(file.files, key=lambda name: name != "x_test"):
                if (array := file[name]).ndim in (3, 4) and array.dtype.kind in "uf" and len(array):
                    return array
                known = f"{name}, {described(array)}"
    except UNREADABLE as error:
        raise InputError(f"{shown(path)}: not an .npz file of plain arrays ({error}).") from None
    raise InputError(f"{shown(path)}: holds no images, uint8 or float [N, H, W, C], but {known or 'nothing'}.")
