"""A look at all files of a set at once, in parallel: their sizes, their pixels, and which are no pictures."""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxrec.data.listing import Files
from jaxrec.data.pictures import BadPictureError, decode_picture, stored_size
from jaxrec.data.streaming import parallel_calls
from jaxrec.errors import InputError

VERSION = 1  # of what is found: another form, or other pixels of the same file, is another number
AT_A_TIME = 64  # files that a thread takes
SILENT = 10  # seconds, after which it is said how far the look is


def look_at(files: Files, shape: tuple[int, int, int], crop: float, *, hold: bool) -> Mapping[str, np.ndarray]:
    """What a cache holds of N files, M of which are pictures: each is decoded once, to know whether it can be.

    "image": uint8 [M, H, W, C], if they are held; "content": uint64 [M], hashes of the files; "bad", "why": numbers of
    the others, and the lines that say why; "said": lines that are no errors.
    """
    try:
        image = np.empty((len(files) if hold else 0, *shape), np.uint8)
    except MemoryError:
        raise InputError(
            f"{files.root}: {len(files):,} images of {shape} do not fit memory. Make data.size smaller."
        ) from None
    content, animated = np.zeros(len(files), np.uint64), np.zeros(len(files), bool)

    def decode(index: int) -> None:
        path = files.path(index)
        picture = decode_picture(path, channels=shape[2], size=shape[:2], crop=crop)
        animated[index] = picture.animated
        if hold:
            image[index] = picture.pixels
        with path.open("rb") as stream:
            content[index] = int.from_bytes(hashlib.file_digest(stream, "sha256").digest()[:8])

    why = _each(files, decode)
    good = np.setdiff1d(np.arange(len(files)), list(why))
    said = []
    if animated.any():
        first = files.name(int(np.flatnonzero(animated)[0]))
        said = [f"of {animated.sum():,} animated pictures or several pages, such as {first}, the first is taken."]
    return {
        "image": image[good] if why and hold else image,
        "content": content[good],
        "bad": np.array(list(why), np.int64),
        "why": np.array(list(why.values()), str),
        "said": np.array(said, str),
    }


def one_size(files: Files, where: str) -> np.ndarray:
    """Height and width that all pictures have, by their headers.

    Raises:
      InputError: they have several sizes, or none of the files is a picture.
    """
    sizes, why = stored_sizes(files)
    if len(why) == len(files):
        raise InputError(f"{where}: none of {len(files):,} files is a picture. {why[0]}")
    known = np.flatnonzero(sizes[:, 0])
    differ = known[(sizes[known] != sizes[known[0]]).any(1)]
    if len(differ):
        (height, width), (other, wide) = sizes[known[0]], sizes[differ[0]]
        raise InputError(
            f"{files.name(differ[0])} is {other} x {wide} (height x width), {files.name(known[0])} {height} x {width}: "
            f"images need one size. Set data.size, such as {min(height, other)}."
        )
    return sizes[known[0]]


def stored_sizes(files: Files) -> tuple[np.ndarray, dict[int, str]]:
    """What the headers say, [N, 2] of height and width, 0 where there is none; and number -> why of these."""
    sizes = np.zeros((len(files), 2), np.int32)

    def look(index: int) -> None:
        sizes[index] = stored_size(files.path(index))

    return sizes, _each(files, look)


def digest(files: Files) -> str:
    """Of all that the pixels follow from: the files, and the code that reads them."""
    import PIL

    found = hashlib.sha256(repr((VERSION, PIL.__version__, os.path.realpath(files.root))).encode())
    for name in files.names:
        try:
            status = os.stat(f"{files.root}/{name}")
            stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        except OSError:
            stamp = "gone"
        found.update(os.fsencode(f"{name}\0{stamp}\0"))  # a name may be no text
    return found.hexdigest()[:24]


def _each(files: Files, look: Callable[[int], None]) -> dict[int, str]:
    """Calls a function with each number, in parallel; returns number -> why, of those that are no pictures."""
    why: dict[int, str] = {}

    def call(index: int) -> None:
        try:
            look(index)
        except BadPictureError as error:
            why[index] = str(error)

    def call_some(start: int) -> None:
        for index in range(start, min(start + AT_A_TIME, len(files))):
            call(index)

    with ThreadPoolExecutor(parallel_calls()) as pool:
        try:
            said = time.monotonic()
            for done, _ in enumerate(pool.map(call_some, range(0, len(files), AT_A_TIME)), 1):
                if time.monotonic() > said + SILENT:
                    said = time.monotonic()
                    print(
                        f"{files.root}: {min(done * AT_A_TIME, len(files)):,} of {len(files):,} files looked at.",
                        file=sys.stderr,
                    )
        except BaseException:  # an interrupt is not to wait for what nobody needs any more
            pool.shutdown(cancel_futures=True)
            raise
    return dict(sorted(why.items()))
