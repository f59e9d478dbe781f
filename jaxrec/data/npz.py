"""Opening `.npz` files: arrays by name, none of them pickled."""

import contextlib
import pathlib
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

# What numpy raises of a file that is none, or damaged, or holds pickled objects.
UNREADABLE = (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The arrays of a file by name, each read when it is asked for. Raises one of `UNREADABLE`."""
    # Opened here, for np.load leaves a file open that it cannot read.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        yield file
