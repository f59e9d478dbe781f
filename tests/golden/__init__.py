"""Numbers that other programs gave, kept in files, so that tests hold this one to them without those programs."""

import pathlib
import platform
from collections.abc import Mapping
from importlib import metadata

import numpy as np

FOLDER = pathlib.Path(__file__).parent
LENGTH = 64  # of a digest


def read(name: str) -> dict[str, np.ndarray]:
    """The arrays of a golden file by name; "versions" says what made them."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def write(name: str, arrays: Mapping[str, np.ndarray], packages: tuple[str, ...]) -> None:
    """Writes a golden file, with the versions of Python and of these packages."""
    versions = [f"python {platform.python_version()}", *(f"{one} {metadata.version(one)}" for one in packages)]
    np.savez_compressed(FOLDER / f"{name}.npz", versions=np.array(versions), **arrays)


def digest(array: np.ndarray) -> np.ndarray:
    """A vector of at most 64 numbers; two of them are as far apart as the arrays were, by 9 % more or less.

    Products with random signs keep lengths and distances, with a deviation of 1 / sqrt(2 * 64) (Johnson and
    Lindenstrauss, 1984). A change of any one element changes them all. Short arrays are kept as they are.
    """
    flat = np.ravel(array).astype(np.float64)
    if len(flat) <= LENGTH:
        return flat
    # RandomState is frozen: unlike default_rng it promises the same numbers in each version of numpy.
    signs = 2 * np.random.RandomState(0).randint(0, 2, (LENGTH, len(flat)), np.int8) - 1
    return signs @ flat / np.sqrt(LENGTH)
