"""The pictures that a CSV names: a line `path,label`, `path,label,split` or `path` for each.

Paths are relative to the CSV and stay below its folder: absolute ones, `..` and links that lead out are refused.
"""

import csv
import os
import pathlib
from collections.abc import Sequence

from jaxrec.data.listing import SPLIT_NAMES, Listing, joined, link_trouble
from jaxrec.data.pictures import shown
from jaxrec.data.splits import SPLITS
from jaxrec.errors import InputError, did_you_mean

# What the columns may be called in the first line, in any case of letters; the order of those without such a line.
COLUMNS = {
    "path": {"path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path"},
    "label": {"label", "class", "category", "class_name"},
    "split": {"split", "subset"},
}


def list_table(table: pathlib.Path, where: str) -> Listing:
    """Reads a CSV.

    Args:
      table: the file.
      where: what messages begin with.

    Raises:
      InputError: it cannot be read or meant; the line says the number of its line.
    """
    rows = _rows(table, where)
    columns, header = _columns(rows[0][1], where)
    parts: dict[str, dict[str | None, list[str]]] = {}
    seen: dict[str, int] = {}
    inside: dict[str, bool] = {}
    for line, row in rows[header:]:
        if len(row) != len(rows[0][1]):
            raise InputError(f"{where}, line {line}: {len(row)} columns, and line 1 has {len(rows[0][1])}.")
        cell = {column: row[index].strip() for column, index in columns.items()}
        name, place = cell["path"], f"{where}, line {line}: {cell['path']!r}"
        _check_path(table.parent, name, place, inside, hint=line == 1)
        name = pathlib.PurePosixPath(name).as_posix()  # without ./ and the like
        if name in seen:
            raise InputError(f"{place} is in line {seen[name]} as well. A picture has one line.")
        seen[name] = line
        if cell.get("label") == "":
            raise InputError(f"{place} has no label. Give it one, or leave the column out for all.")
        split = SPLIT_NAMES.get(cell.get("split", "train").casefold())
        if split is None:
            near = did_you_mean(cell["split"], SPLITS)
            raise InputError(f"{place} is of split {cell['split']!r}; allowed are {', '.join(SPLITS)}.{near}")
        parts.setdefault(split, {}).setdefault(cell.get("label"), []).append(name)
    if "train" not in parts:
        raise InputError(
            f"{where}: no picture to train on, {'all are of ' + ', '.join(parts) if parts else 'no line'}."
        )
    return joined(table.parent, parts, [], where)


def _rows(table: pathlib.Path, where: str) -> list[tuple[int, list[str]]]:
    """The lines that are not blank, with their numbers."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8.") from None
    except csv.Error as error:
        raise InputError(f"{where}, line {reader.line_num}: no CSV ({error}).") from None
    if not rows:
        raise InputError(f"{where}: an empty file. It needs a line path,label for each picture.")
    return rows


def _columns(first: Sequence[str], where: str) -> tuple[dict[str, int], int]:
    """Column -> where it stands, and 1 where the first line says so, else 0."""
    words = [cell.strip().casefold() for cell in first]
    named = {column: [index for index, word in enumerate(words) if word in names] for column, names in COLUMNS.items()}
    if any(named.values()) and not any("." in word for word in words):
        listed = ", ".join(map(shown, first))
        if twice := [column for column, indices in named.items() if len(indices) > 1]:
            raise InputError(f"{where}, line 1: two columns for {twice[0]}: {listed}. Leave one out.")
        if not named["path"]:
            raise InputError(f"{where}, line 1: no column for the path: {listed}. Call it path.")
        return {column: indices[0] for column, indices in named.items() if indices}, 1
    if not 2 <= len(first) <= 3:
        raise InputError(
            f"{where}, line 1: {len(first)} columns. A CSV has path,label or path,label,split, parted by commas, "
            "or says in its first line which columns these are."
        )
    return dict(zip(COLUMNS, range(len(first)), strict=False)), 0


def _check_path(root: pathlib.Path, name: str, place: str, inside: dict[str, bool], *, hint: bool) -> None:
    """Raises InputError unless a path of a CSV is that of a file below the CSV's folder."""
    path = pathlib.PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise InputError(f"{place} is no path below the folder of the CSV: neither absolute, nor with '..', nor empty.")
    file = root / name
    if not file.exists():
        first = " If line 1 names the columns, call them path, label and split." if hint else ""
        raise InputError(f"{place}: no such file, looked in {shown(file.absolute())}.{first}")
    folder = str(file.parent)
    if folder not in inside:
        inside[folder] = pathlib.Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(root))
    if not inside[folder] or (file.is_symlink() and link_trouble(file, root)):
        raise InputError(f"{place} leads out of the folder of the CSV, by a link. Copy what is meant into it.")
