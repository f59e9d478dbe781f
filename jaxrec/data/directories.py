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
    folders, _ = _entries(root, "", [])
    named = {folder: SPLIT_NAMES[folder.casefold()] for folder in folders if folder.casefold() in SPLIT_NAMES}
    others = [folder for folder in folders if folder not in named]
    if len(named) < 2 and (others or not named):  # one of several classes may be called train
        return joined(root, {"train": _part(root, "", ignored)}, ignored, where)
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
    _, files = _entries(root, "", ignored)
    _refuse_loose(root, "", files, ignored)
    parts = {split: _part(root, f"{folder}/", ignored) for folder, split in named.items()}
    return joined(root, parts, ignored, where)


# Below, `within` is a folder by its path below the root, "" or ending in /: a million files are a million strings.


def _part(root: pathlib.Path, within: str, ignored: list[str]) -> dict[str | None, list[str]]:
    """Class -> names of the files of one split; the class is None where pictures lie in no class."""
    folders, files = _entries(root, within, ignored)
    if not folders:
        if not files:
            raise InputError(f"{shown(root / within)}: a folder without pictures. Name another, or put some in.")
        return {None: [within + file for file in files]}
    _refuse_loose(root, within, files, ignored)
    classes: dict[str | None, list[str]] = {}
    for name in folders:
        classes[name] = _below(root, f"{within}{name}/", ignored)
        if not classes[name]:
            path = shown(root / within / name)
            raise InputError(f"{path}: a class folder without pictures. Add some, or take it out.")
    return classes


def _below(root: pathlib.Path, within: str, ignored: list[str]) -> list[str]:
    """The files of a class, in folders below it as well."""
    folders, files = _entries(root, within, ignored)
    for name in folders:
        if name.casefold() in SPLIT_NAMES:
            path = root / within / name
            raise InputError(
                f"{shown(path)}: a split below a class. Turn it round, {name}/{path.parent.name}/, for all of them."
            )
    names = [within + file for file in files]
    return names + [name for folder in folders for name in _below(root, f"{within}{folder}/", ignored)]


def _entries(root: pathlib.Path, within: str, ignored: list[str]) -> tuple[list[str], list[str]]:
    """The names of the (folders, files) in a folder, in natural order; what is ignored is added to the list."""
    folders, files = [], []
    with os.scandir(root / within) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name.casefold() in SYSTEM:
                ignored.append(within + name)
            elif entry.is_symlink() and (trouble := link_trouble(pathlib.Path(entry.path), root)):
                raise BadPictureError(f"{shown(entry.path)}: a link {trouble}. Copy what is meant into the folder.")
            elif entry.is_dir():
                folders.append(name)
            elif _suffix(name) in TEXTS:
                ignored.append(within + name)
            else:
                files.append(name)
    return sorted(folders, key=natural), sorted(files, key=natural)


def _refuse_loose(root: pathlib.Path, within: str, files: Sequence[str], ignored: list[str]) -> None:
    """Raises InputError for a picture beside the folders it should lie in; other files there are ignored."""
    for file in files:
        if _suffix(file) in PICTURES:
            path = shown(root / within / file)
            raise InputError(f"{path}: a picture beside folders, in no class. Put it into one, or take it out.")
    ignored.extend(within + file for file in files)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
