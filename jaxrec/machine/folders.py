"""The user's folders that jaxrec reads and writes besides a run's own."""

import os
import pathlib


def cache_folder() -> pathlib.Path:
    """Where compiled programs and data sets read once are kept: $XDG_CACHE_HOME/jaxrec or ~/.cache/jaxrec."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "jaxrec"


def data_folder() -> pathlib.Path:
    """Where TFDS keeps its data sets: $TFDS_DATA_DIR or ~/tensorflow_datasets."""
    return pathlib.Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
