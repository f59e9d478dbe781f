"""Arrays that take time to make, kept in the user's cache folder, for the user alone."""

import contextlib
import os
import pathlib
import warnings
from collections.abc import Callable, Mapping

import numpy as np

from jaxrec.data.npz import UNREADABLE, opened
from jaxrec.errors import InputError
from jaxrec.machine.folders import make_private


def save_arrays(cache: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an `.npz`, whole or not at all: an interrupted run leaves no part of it behind.

    Raises:
      InputError: it cannot be written.
    """
    partial = cache.with_suffix(f".{os.getpid()}.npz")
    try:
        make_private(cache.parent)
        np.savez(partial, **arrays)
        partial.replace(cache)
    except OSError as error:
        raise InputError(
            f"{cache}: the cache cannot be written ({error.strerror or error}). Make room, or let XDG_CACHE_HOME name "
            "another folder."
        ) from None
    finally:
        with contextlib.suppress(OSError):  # a folder that is none has no file to take away either
            partial.unlink()


def kept_arrays(cache: pathlib.Path, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """The arrays that are kept there; where there are none, or they are damaged, those made now."""
    try:
        with opened(cache) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        pass
    except UNREADABLE as error:
        warnings.warn(f"{cache}: a damaged cache ({error}), made anew.", stacklevel=2)
    arrays = make()
    save_arrays(cache, arrays)
    return arrays
