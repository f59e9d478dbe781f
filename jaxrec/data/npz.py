"""Opening `.npz` files, wherever they come from: arrays by name, none pickled, all looked at before one is read.

A file may claim what it does not hold, or hold far more than it weighs. What headers claim is compared with what the
archive holds, and that with the size of the file, so that memory is only taken for what is there.
"""

import contextlib
import io
import math
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from jaxrec.errors import reason

# What is raised of a file that is none, or damaged, or claims what it should not.
UNREADABLE = (OSError, ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)

MOST_UNPACKED = 100  # bytes that a byte of a file may unpack to; pictures do to less than ten, zeros to a thousand,
HARMLESS = 2**26  # unless they are no more bytes than this in all
HEADER = 2**16  # bytes of an array in which its header ends
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The arrays of a file by name, each read when it is asked for.

    Raises one of `UNREADABLE`, before memory is taken: it is no archive of arrays; one of them is of Python objects, or
    claims another size than it has; it unpacks to more than `MOST_UNPACKED` times its size; two entries have one name,
    or one is encrypted or lies outside.
    """
    with path.open("rb") as stream:
        _check(stream)
        # Not np.load, which looks at the first bytes alone: they may be those of something else.
        with np.lib.npyio.NpzFile(stream, allow_pickle=False) as file:
            yield file


def _check(stream: BinaryIO) -> None:
    """Raises one of `UNREADABLE` unless an archive is what `np.savez` or `np.savez_compressed` writes."""
    size = os.fstat(stream.fileno()).st_size
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > max(HARMLESS, MOST_UNPACKED * size):
            raise ValueError(
                f"{size:,} bytes that unpack to {unpacked:,}; {MOST_UNPACKED} times as many are allowed. If they are "
                "meant, store them by np.savez"
            )
        if len({entry.filename for entry in entries}) < len(entries):
            raise ValueError("two entries of one name")
        for entry in entries:
            _check_entry(archive, entry)


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """The same of one entry."""
    name, ways = entry.filename, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if not re.fullmatch(r"[^/\\].{,250}\.npy", name) or not name.isprintable() or ".." in re.split(r"[/\\]", name):
        raise ValueError(f"{name[:80]!r} is no array's name")
    if entry.flag_bits & 1 or entry.compress_type not in ways:
        raise ValueError(f"{name}: encrypted, or packed in a way that is not np.savez's")
    with archive.open(entry) as content:
        head = io.BytesIO(content.read(HEADER))
    try:
        shape, _, dtype = HEADERS[np.lib.format.read_magic(head)](head)
    except Exception as error:  # whatever Python's parser and numpy's types stumble over, memory and depth as well
        raise ValueError(f"{name}: no array's header ({reason(error)[:200]})") from None
    if dtype.hasobject:
        raise ValueError(f"{name}: Python objects, which are never read. Store numbers or strings")
    if min(shape, default=0) < 0 or math.prod(shape) * max(dtype.itemsize, 1) != entry.file_size - head.tell():
        raise ValueError(
            f"{name}: claims {str(dtype)[:80]}{list(shape)}, and holds {entry.file_size - head.tell():,} bytes"
        )
