"""Manifests: what the files of a step's folder hold, written with them, so that damage is seen. Knows no arrays."""

import hashlib
import json
import os
import pathlib
import re
import stat
from collections.abc import Mapping
from concurrent import futures

from jaxrec.machine.cores import cores

NAME = "manifest.json"
PARTIAL = "manifest.partial"
PIECE = 2**23  # bytes that are hashed at once: the cores share large files


def steps(directory: pathlib.Path) -> list[int]:
    """The steps that the names in a directory stand for, in order, whatever these names belong to."""
    names = os.listdir(directory) if directory.is_dir() else []
    return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))


def sizes(folder: pathlib.Path) -> dict[str, int]:
    """The bytes of each file under a folder, by its path in there, without the manifest. No link is followed."""
    return {name: status.st_size for name, status in _entries(folder).items() if name not in (NAME, PARTIAL)}


def write(folder: pathlib.Path, step: int) -> None:
    """Writes `manifest.json` into a folder, for what lies in it now: {"step": ..., "files": {path: bytes, sha256}}.

    There is a SHA-256 for each `PIECE` of a file. It is there whole or not at all, with everything on the disk by then.
    """
    found = sizes(folder)
    digests = _hashes(folder, found, threads=1)  # the others train
    for name in found:
        _flush(folder / name)
    files = {name: {"bytes": size, "sha256": digests[name]} for name, size in found.items()}
    with (folder / PARTIAL).open("w") as file:
        json.dump({"step": step, "files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    (folder / PARTIAL).replace(folder / NAME)


def is_missing(folder: pathlib.Path) -> bool:
    """Whether a folder with files in it, no link, is without a manifest."""
    return not folder.is_symlink() and folder.is_dir() and not (folder / NAME).exists() and bool(sizes(folder))


def fault(folder: pathlib.Path, step: int) -> str | None:
    """Compares a folder to its manifest, byte for byte.

    Args:
      folder: of the step.
      step: which it should hold.

    Returns:
      None where they agree, else what does not, in words that follow the folder's name; the file comes first.
    """
    if folder.is_symlink():
        return "is a link, not a folder"
    try:
        return _fault(folder, step)
    except OSError as error:
        return f"cannot be read ({error.strerror}: {error.filename})"


def _fault(folder: pathlib.Path, step: int) -> str | None:
    for name, status in sorted(_entries(folder).items()):
        if not stat.S_ISREG(status.st_mode):
            return f"{name} is a link, not a file" if stat.S_ISLNK(status.st_mode) else f"{name} is not a file"
    if not (folder / NAME).exists():
        return (
            "has no manifest: an older version saved it, or it is no checkpoint; "
            "`launch.py verify --run=RUN --seal` vouches for it"
        )
    try:
        stored = json.loads((folder / NAME).read_bytes())
        held, files = stored["step"], {name: (file["bytes"], file["sha256"]) for name, file in stored["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{NAME} is not one: it is damaged"
    if held != step:
        return f"{NAME} is of step {held}: this folder was another's"
    found = sizes(folder)
    for name in sorted({*files, *found}):
        if name not in found:
            return f"{name} is missing"
        if name not in files:
            return f"{name} has come in later"
        if found[name] != files[name][0]:
            return f"{name} has {found[name]} bytes, and {files[name][0]} were written"
    digests = _hashes(folder, found, threads=cores())
    for name, (_, digest) in sorted(files.items()):
        if digests[name] != digest:
            return f"{name} holds other bytes than were written"
    return None


def _entries(folder: pathlib.Path) -> dict[str, os.stat_result]:
    """What lies under a folder and is no folder itself, by its path in there; a link to a folder is none."""
    found, waiting = {}, [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(pathlib.Path(entry))
                else:
                    found[pathlib.Path(entry).relative_to(folder).as_posix()] = entry.stat(follow_symlinks=False)
    return found


def _hashes(folder: pathlib.Path, files: Mapping[str, int], *, threads: int) -> dict[str, list[str]]:
    """SHA-256 of each piece of files, in hexadecimal digits, by path; `files` has their bytes."""
    pieces = [(name, start) for name, size in files.items() for start in range(0, max(size, 1), PIECE)]

    def hashed(piece: tuple[str, int]) -> str:
        name, start = piece
        with (folder / name).open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(PIECE)).hexdigest()  # other threads run meanwhile

    found: dict[str, list[str]] = {name: [] for name in files}
    with futures.ThreadPoolExecutor(threads, thread_name_prefix="manifest") as pool:
        for (name, _), digest in zip(pieces, pool.map(hashed, pieces), strict=True):
            found[name].append(digest)
    return found


def _flush(path: pathlib.Path) -> None:
    """Sees to it that a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
