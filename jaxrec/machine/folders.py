"""The user's folders that jaxrec reads and writes besides a run's own."""

import os
import pathlib
import stat

from jaxrec.errors import InputError


def cache_folder() -> pathlib.Path:
    """Where compiled programs and data sets read once are kept: $XDG_CACHE_HOME/jaxrec or ~/.cache/jaxrec.

    Raises:
      InputError: others can write there: what they leave would be run, or trained on.
    """
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "jaxrec"
    for path in (folder, folder / "xla", folder / "datasets"):
        _refuse_shared(path)
    return folder


def make_private(folder: pathlib.Path) -> None:
    """Makes a folder below the cache's, and that one, the user's alone. Raises OSError where they cannot be made."""
    for path in (cache_folder(), folder):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)


def data_folder() -> pathlib.Path:
    """Where TFDS keeps its data sets: $TFDS_DATA_DIR or ~/tensorflow_datasets."""
    return pathlib.Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def _refuse_shared(folder: pathlib.Path) -> None:
    """Raises InputError where a folder is there and belongs to somebody else, or lets others write."""
    try:
        status = folder.stat()
    except OSError:  # whoever wants to read or write there will say it
        return
    if status.st_uid not in (0, os.geteuid()):
        what, remedy = "belongs to another user", "Let XDG_CACHE_HOME name a folder of yours."
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        what, remedy = (
            "can be written by others",
            f"If all in it is yours, `chmod -R go-rwx {folder}`; else take it away.",
        )
    else:
        return
    raise InputError(f"{folder}: the cache {what}, and what lies there is run and trained on. {remedy}")
