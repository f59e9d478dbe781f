"""What a set of picture files is before a pixel is read: files, labels, classes, splits."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxrec.data.pictures import BadPictureError, shown
from jaxrec.data.splits import SPLITS
from jaxrec.errors import InputError, did_you_mean

# How people call them, in any case of letters.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
Parts = Mapping[str, Mapping[str | None, list[str]]]  # split -> class, None where there are none -> names of files


@dataclasses.dataclass(frozen=True)  # no NamedTuple, whose length is that of its fields
class Files:
    """Files under a root, by number."""

    root: pathlib.Path
    names: Sequence[str]  # relative to the root, with /

    def __len__(self) -> int:
        """How many there are."""
        return len(self.names)

    def name(self, index: int) -> str:
        """The path of a file for people."""
        return shown(self.path(index))

    def path(self, index: int) -> pathlib.Path:
        """The path of a file."""
        return self.root / self.names[index]

    def read(self, index: int) -> bytes:
        """The content of a file.

        Raises:
          BadPictureError: it cannot be read.
        """
        try:
            return self.path(index).read_bytes()
        except OSError as error:
            raise BadPictureError(f"{self.name(index)}: cannot be read ({error.strerror or error}).") from None

    def sizes(self) -> np.ndarray:
        """The sizes of all files in bytes, int64 [N].

        Raises:
          BadPictureError: one is gone.
        """
        try:
            return np.array([os.stat(f"{self.root}/{name}").st_size for name in self.names], np.int64)
        except OSError as error:
            raise BadPictureError(f"{shown(error.filename)}: cannot be read ({error.strerror}).") from None


class Listing(NamedTuple):
    """What was found."""

    files: Files  # N of them: train first, then validation and test; by class, then by name
    label: np.ndarray | None  # int32 [N]; None where pictures lie in no class
    classes: tuple[str, ...]  # K names in natural order: 1, 2, 10
    splits: Mapping[str, np.ndarray]  # the ids of those that the folder or CSV has itself; of others "train" holds all
    ignored: tuple[str, ...]  # hidden files, texts, what file managers leave


def joined(root: pathlib.Path, parts: Parts, ignored: list[str], where: str) -> Listing:
    """One list of all splits, once their classes fit each other."""
    own = {split: set(classes) for split, classes in parts.items()}
    if len({None in classes for classes in own.values()}) > 1:
        flat = ", ".join(split for split, classes in own.items() if None in classes)
        raise InputError(f"{where}: pictures of {flat} lie in no class, others do. All splits need classes, or none.")
    classes = tuple(sorted(set().union(*own.values()) - {None}, key=natural))
    for split, found in own.items():
        if new := sorted(found - own["train"] - {None}, key=natural):
            near = did_you_mean(new[0], map(shown, own["train"] - {None}))
            raise InputError(
                f"{where}: class {new[0]!r} of {split} has no picture in train: that cannot be learned. Add some, or "
                f"leave it out.{near}"
            )
    if len(classes) == 1:
        raise InputError(
            f"{where}: one class, {classes[0]!r}: nothing to tell apart. Add another; to learn without labels, name a "
            "folder in which pictures lie directly, or a CSV with a column path alone."
        )
    names: list[str] = []
    label: list[int] = []
    splits = {}
    for split in (split for split in SPLITS if split in parts):
        start = len(names)
        for index, name in enumerate(classes or (None,)):
            names += (mine := parts[split].get(name, []))
            label += [index] * len(mine)
        splits[split] = np.arange(start, len(names), dtype=np.int32)
    return Listing(
        Files(root, tuple(names)), np.array(label, np.int32) if classes else None, classes, splits, tuple(ignored)
    )


def natural(name: str) -> tuple:
    """The key that sorts 2 before 10."""
    parts = [part for part in re.split(r"([0-9]+)", name) if part]
    return (*((0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in parts), (-1, 0, name))


def link_trouble(link: pathlib.Path, root: pathlib.Path) -> str:
    """Why a link is refused, or ""."""
    target = pathlib.Path(os.path.realpath(link))
    if not target.is_relative_to(os.path.realpath(root)):
        return "that leads out of the folder"
    if not target.exists():
        return "that leads nowhere"
    return "to a folder" if target.is_dir() else ""  # which could hold itself
