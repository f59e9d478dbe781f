"""What the data of a run hold, in a few words that change with them."""

import hashlib
from collections.abc import Iterable

import numpy as np

from jaxrec.data.batches import Dataset
from jaxrec.data.streaming import Stream

MOST_BYTES = 2**30  # of an array that are hashed: half a second
READ = 64  # pictures of a stream that are read


def fingerprint(dataset: Dataset) -> dict[str, int | str]:
    """The number of examples, and 16 hexadecimal digits of a SHA-256 for each array: another array has others.

    An array is hashed whole, with its type and shape; of one larger than `MOST_BYTES` as many evenly spaced examples as
    these hold. Of a stream it is the sizes of everything that it lies in, and the bytes of `READ` evenly spaced
    pictures: one that was replaced by another of the same size may go unseen there.

    Raises:
      InputError: a picture of a stream cannot be read.
    """
    digests = {key: _digest(_stored(array)) for key, array in sorted(dataset.arrays.items())}
    return {"examples": len(dataset.image), **digests}


def _stored(array: np.ndarray | Stream) -> Iterable[bytes | np.ndarray]:
    """What is hashed of an array."""
    yield f"{array.dtype.str} {tuple(array.shape)}".encode()
    if isinstance(array, Stream):
        yield array.pictures.sizes()
        yield from map(array.pictures.read, _evenly(len(array), READ))
    elif array.nbytes <= MOST_BYTES:
        yield array
    else:
        yield from map(array.__getitem__, _evenly(len(array), MOST_BYTES * len(array) // array.nbytes))


def _evenly(length: int, most: int) -> np.ndarray:
    """At most so many numbers below `length`, at even distances."""
    return np.linspace(0, length - 1, min(length, most)).round().astype(int)


def _digest(parts: Iterable[bytes | np.ndarray]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part if isinstance(part, bytes) else np.ascontiguousarray(part))
    return found.hexdigest()[:16]
