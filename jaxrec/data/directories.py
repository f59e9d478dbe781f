"""The pictures of a folder by its layout: `class/...` or pictures alone, or `train/`, `validation/`, `test/` of such.

Links that lead out of the folder are refused; hidden files, texts and what file managers leave are ignored and listed.
"""

import os
import pathlib
from collections.abc import Sequence

from jaxrec.data.listing import SPLIT_NAMES, Listing, joined, link_trouble, natural
from jaxrec.data.pictures import BadPictureError, shown
from jaxrec.errors import InputError

SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"}
TEXTS = {".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".html", ".pdf"}
PICTURES = {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


def list_directory(root: pathlib.Path, where: str) -> Listing:
    """Looks through a folder; a class takes in what lies in folders below it.

    Args:
      root: the folder.
      where: what messages of the whole begin with.

    Raises:
      InputError: there are no pictures, or its layout cannot be meant; the line names the folder or file.
    """
    ignored: list[str] = []
    folders, _ = _entries(root, root, [])
    named = {folder: SPLIT_NAMES[folder.casefold()] for folder in folders if folder.casefold() in SPLIT_NAMES}
    others = [folder for folder in folders if folder not in named]
    if len(named) < 2 and (others or not named):  # one of several classes may be called train
        parts = {"train": _part(root, root, ignored)}
        return joined(root, parts, ignored, where)
    if others:
        raise InputError(
            f"{where}: {', '.join(named)} beside {shown(others[0])}: a folder has splits (train, validation, test) or "
            "classes. Put classes into the splits, or other folders elsewhere."
        )
    if "train" not in named.values():
        raise InputError(
            f"{where}: there is {', '.join(named)} and no train. Add a folder train/, or name a folder of it."
        )
    if len(set(named.values())) < len(named):
        raise InputError(f"{where}: {', '.join(named)}: two folders for one split. Put them together.")
    _, files = _entries(root, root, ignored)
    _refuse_loose(files, root, root, ignored)
    parts = {split: _part(root / folder, root, ignored) for folder, split in named.items()}
    return joined(root, parts, ignored, where)


def _part(folder: pathlib.Path, root: pathlib.Path, ignored: list[str]) -> dict[str | None, list[str]]:
    """Class -> names of the files of one split; the class is None where pictures lie in no class."""
    folders, files = _entries(folder, root, ignored)
    if not folders:
        if not files:
            raise InputError(f"{shown(folder)}: a folder without pictures. Name another, or put some in.")
        return {None: [_relative(folder / file, root) for file in files]}
    _refuse_loose(files, folder, root, ignored)
    classes: dict[str | None, list[str]] = {}
    for name in folders:
        classes[name] = _below(folder / name, root, ignored)
        if not classes[name]:
            raise InputError(f"{shown(folder / name)}: a class folder without pictures. Add some, or take it out.")
    return classes


def _below(folder: pathlib.Path, root: pathlib.Path, ignored: list[str]) -> list[str]:
    """The files of a class, in folders below it as well."""
    folders, files = _entries(folder, root, ignored)
    for name in folders:
        if name.casefold() in SPLIT_NAMES:
            raise InputError(
                f"{shown(folder / name)}: a split below a class. Turn it round, {name}/{folder.name}/, for all of them."
            )
    names = [_relative(folder / file, root) for file in files]
    return names + [name for below in folders for name in _below(folder / below, root, ignored)]


def _entries(folder: pathlib.Path, root: pathlib.Path, ignored: list[str]) -> tuple[list[str], list[str]]:
    """The names of the (folders, files) in a folder, in natural order; what is ignored is added to the list."""
    folders, files = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            path, lower = pathlib.Path(entry.path), entry.name.casefold()
            if entry.name.startswith(".") or lower in SYSTEM:
                ignored.append(_relative(path, root))
            elif entry.is_symlink() and link_trouble(path, root):
                raise BadPictureError(
                    f"{shown(path)}: a link {link_trouble(path, root)}. Copy what is meant into the folder."
                )
            elif entry.is_dir():
                folders.append(entry.name)
            elif path.suffix.lower() in TEXTS:
                ignored.append(_relative(path, root))
            else:
                files.append(entry.name)
    return sorted(folders, key=natural), sorted(files, key=natural)


def _refuse_loose(files: Sequence[str], folder: pathlib.Path, root: pathlib.Path, ignored: list[str]) -> None:
    """Raises InputError for a picture beside the folders it should lie in; other files there are ignored."""
    for file in files:
        if pathlib.Path(file).suffix.lower() in PICTURES:
            raise InputError(
                f"{shown(folder / file)}: a picture beside folders, in no class. Put it into one, or take it out."
            )
    ignored.extend(_relative(folder / file, root) for file in files)


def _relative(path: pathlib.Path, root: pathlib.Path) -> str:
    return path.relative_to(root).as_posix()
