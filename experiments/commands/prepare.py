"""Downloads a TFDS set and prepares it, where there is a network; a run itself never reaches for one."""

import pathlib

from jaxrec.data.prepared import prepare_set
from jaxrec.machine.folders import data_folder
from jaxrec.types import Paths


def prepare(*, names: Paths, data_dir: str | None = None, manual_dir: str | None = None) -> int:
    """Prepares sets one after the other; what is there already is left alone, a broken download goes on.

    Args:
      names: as TFDS calls them, such as mnist, or "name/config".
      data_dir: where TFDS keeps its sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
      manual_dir: where files lie that TFDS may not download itself, such as those of imagenet2012.

    Returns:
      The exit code.

    Raises:
      InputError: a set is unknown, or what it needs cannot be had; the line says what is missing.

    Example:
      python launch.py prepare mnist cifar10
    """
    root = pathlib.Path(data_dir).expanduser() if data_dir else data_folder()
    for name in names:
        print(prepare_set(name, root, pathlib.Path(manual_dir).expanduser() if manual_dir else None))
    return 0
