"""Pictures of your own: a folder or a CSV becomes a `Dataset`. A config names `folder`.

A set that fits is decoded once, in parallel, and kept as one array in the user's cache folder, under a digest of all
that matters: a changed folder never meets an old cache.
"""

import hashlib
import math
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from jaxrec.data import duplicates
from jaxrec.data.batches import Dataset
from jaxrec.data.cache import kept_arrays
from jaxrec.data.directories import list_directory
from jaxrec.data.listing import Files, Listing
from jaxrec.data.pictures import BadPictureError, decode_picture, shown, stored_size
from jaxrec.data.splits import with_held_out
from jaxrec.data.streaming import Stream, check_keys
from jaxrec.data.tables import list_table
from jaxrec.errors import InputError
from jaxrec.machine.folders import cache_folder
from jaxrec.types import Count, Rate, Seed, Share, Widths

VERSION = 1  # of what a cache holds: another form, or other pixels of the same file, is another number
SHOWN = 3  # bad files that a message names
AT_A_TIME = 64  # files that a thread takes


def folder(
    *,
    path: str,
    size: Count | Widths | None = None,
    channels: Literal[1, 3] = 3,
    crop: Share = 1.0,
    validation: Rate = 0.1,
    split_seed: Seed = 0,
    on_bad: Literal["error", "skip"] = "error",
    near_duplicates: bool = False,
    max_bytes: Count = 4_000_000_000,
    random_area: Share | None = None,
    stream: bool | None = None,
) -> Dataset:
    """Pictures of your own: a folder with a folder for each class, or of pictures alone, or a CSV that names them.

    `docs/data.md` has the layouts and the kinds of files. Splits that are not there are held out as for any set: a
    fifth as the test split, a share of the rest as validation, by class.

    Args:
      path: of the folder or the `.csv`.
      size: height and width of the images, or one number for both: each picture is scaled until it covers
        `size / crop`, and its centre is kept. None: they have one size already.
      channels: 3 for colours, 1 for grey.
      crop: the share of the scaled picture that is kept.
      validation: share of train held out where there is no validation split; 0 holds none out.
      split_seed: which ones.
      on_bad: "error" refuses a set with files that are no readable pictures, "skip" leaves these out and says which; in
        a validation or test split of your own they are refused in any case.
      near_duplicates: whether to look for pictures of one split that are nearly the same as some of another, too.
      max_bytes: the largest set to hold in memory and on every device; a larger one is streamed.
      random_area: in a stream, training sees a part of the picture at random, of at least this share of its area
        (Szegedy et al., 2015: 0.08), scaled to `size`. Only that part of a JPEG is decoded.
      stream: whether images are read and decoded ahead of each step rather than held; by default if they are too many.

    Raises:
      InputError: the folder or CSV cannot be meant, a picture cannot be read, sizes differ and `size` is not set, or
        the set is larger than `max_bytes` where `stream` is False. The line names the file.
    """
    where, listing = f"data.path = {path!r}", listed(path)
    check_keys(size, crop, random_area, stream)
    size = _height_and_width(size)
    shape = (*(size or one_size(listing.files, where)), channels)
    fits = len(listing.files) * math.prod(shape) <= max_bytes
    streamed = stream if stream is not None else random_area is not None or not fits
    if streamed and near_duplicates:
        raise InputError("data.near_duplicates compares images in memory: leave it out, or set data.stream = False.")
    if not streamed:
        _check_size((len(listing.files), *shape), max_bytes, where)
    kind = "stream" if streamed else "folder"
    cache = cache_folder() / "datasets" / f"{kind}-{_digest(listing.files, size, channels, crop)}.npz"
    arrays = kept_arrays(
        cache, lambda: _looked_at(listing.files, shape, crop, hold=not streamed, resize=size is not None)
    )
    for line in arrays["said"]:
        warnings.warn(f"{where}: {line}", stacklevel=2)
    bad = dict(zip(arrays["bad"].tolist(), arrays["why"].tolist(), strict=True))
    _refuse_bad(bad, listing, on_bad, where)
    good = np.setdiff1d(np.arange(len(listing.files)), arrays["bad"])
    place = np.full(len(listing.files), -1, np.int32)  # of a file among the good ones
    place[good] = np.arange(len(good))
    label = None if listing.label is None else listing.label[good]
    splits = {split: place[ids][place[ids] >= 0] for split, ids in listing.splits.items()}
    _refuse_empty(splits, label, listing.classes, where)
    splits = with_held_out(
        splits,
        label,
        validation=validation,
        split_seed=split_seed,
        where=where,
        what={"test": "a test split of your own", "validation": "a validation split, or change data.validation"},
    )

    def name(index: int) -> str:
        return listing.files.name(good[index])

    if streamed:
        readable = Files(listing.files.root, tuple(listing.files.names[index] for index in good))
        image = Stream(readable, size=shape[:2], channels=channels, crop=crop, random_area=random_area)
    else:
        image = arrays["image"]
    content = arrays["content"]
    found = [*duplicates.same_in_two_splits(content, splits, name)]
    found += [] if label is None else duplicates.under_two_labels(content, label, name)
    found += duplicates.near_in_two_splits(image, content, splits, name) if near_duplicates else []
    for line in found:
        warnings.warn(f"{where}: {line}", stacklevel=2)
    held = {"image": image} if label is None else {"image": image, "label": label}
    return Dataset(held, splits, listing.classes, tuple(bad.values()))


def listed(path: str) -> Listing:
    """Looks at a folder of pictures, or reads a CSV that names them; no picture is opened.

    Args:
      path: as for `folder`.

    Raises:
      InputError: it is missing, empty, or cannot be meant.
    """
    where, root = f"data.path = {path!r}", pathlib.Path(path).expanduser()
    try:
        if root.is_dir():
            return list_directory(root, where)
        if root.is_file() and root.suffix.lower() == ".csv":
            return list_table(root, where)
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror}: {shown(error.filename)}).") from None
    if root.is_file():
        raise InputError(f"{where}: neither a folder of pictures nor a .csv that names them. Unpack an archive.")
    raise InputError(f"{where}: no such folder or CSV. Looked in {shown(root.absolute())}.")


def stored_sizes(files: Files) -> tuple[np.ndarray, dict[int, str]]:
    """What the headers say, [N, 2] of height and width, 0 where there is none; and number -> why of these."""
    sizes = np.zeros((len(files), 2), np.int32)

    def look(index: int) -> None:
        sizes[index] = stored_size(files.path(index))

    return sizes, _each(files, look)


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

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            list(pool.map(call_some, range(0, len(files), AT_A_TIME)))
        except BaseException:  # an interrupt is not to wait for what nobody needs any more
            pool.shutdown(cancel_futures=True)
            raise
    return dict(sorted(why.items()))


def _height_and_width(size: Count | Widths | None) -> tuple[int, int] | None:
    """What `data.size` says."""
    if size is None or isinstance(size, int):
        return size and (size, size)
    if len(size) != 2:
        raise InputError(f"data.size = {size}: allowed is (height, width), or one number for both.")
    return tuple(size)


def one_size(files: Files, where: str) -> tuple[int, int]:
    """The (height, width) that all pictures have, by their headers.

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
    return tuple(map(int, sizes[known[0]]))


def _check_size(shape: tuple[int, ...], max_bytes: int, where: str) -> None:
    """Raises InputError for images uint8 [N, H, W, C] that do not fit."""
    in_all = math.prod(shape)
    if in_all > max_bytes:
        raise InputError(
            f"{where}: {shape[0]:,} images of {' x '.join(map(str, shape[1:]))} are {in_all:,} bytes and do not fit "
            f"data.max_bytes = {max_bytes:,}. Make data.size smaller, or raise data.max_bytes if this machine and "
            "every device can hold the set."
        )


def _digest(files: Files, *what: object) -> str:
    """Of all that the pixels follow from: the files, what is made of them, and by which code."""
    import PIL

    digest = hashlib.sha256(repr((VERSION, PIL.__version__, os.path.realpath(files.root), what)).encode())
    for index, name in enumerate(files.names):
        try:
            status = files.path(index).stat()
            stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        except OSError:
            stamp = ()
        digest.update(repr((name, stamp)).encode())
    return digest.hexdigest()[:24]


def _looked_at(
    files: Files, shape: tuple[int, int, int], crop: float, *, hold: bool, resize: bool
) -> Mapping[str, np.ndarray]:
    """What a cache holds of N files, M of which are pictures: each is decoded once, to know whether it can be.

    "image": uint8 [M, H, W, C], if they are held; "content": uint64 [M], hashes of the files; "bad", "why": numbers of
    the others, and the lines that say why; "said": lines that are no errors.
    """
    if not hold:
        print(f"{files.root}: looks at {len(files):,} files once.", file=sys.stderr)
    try:
        image = np.empty((len(files) if hold else 0, *shape), np.uint8)
    except MemoryError:
        raise InputError(
            f"{files.root}: {len(files):,} images of {shape} do not fit memory. Make data.size smaller."
        ) from None
    content, animated = np.zeros(len(files), np.uint64), np.zeros(len(files), bool)

    def decode(index: int) -> None:
        path = files.path(index)
        picture = decode_picture(path, channels=shape[2], size=shape[:2] if resize else None, crop=crop)
        if picture.pixels.shape != shape:  # a PNG may say behind its pixels that it lies
            raise InputError(f"{files.name(index)}: its size is another than that of the others. Set data.size.")
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


def _refuse_bad(bad: Mapping[int, str], listing: Listing, on_bad: str, where: str) -> None:
    """Raises InputError for files that are no pictures, or warns that they are left out."""
    if not bad:
        return
    judged = {index for split, ids in listing.splits.items() if split != "train" for index in ids.tolist()}
    refused = {index: why for index, why in bad.items() if on_bad == "error" or index in judged}
    if refused:
        first = next(iter(refused.values()))
        names = [listing.files.name(index) for index in list(refused)[1:SHOWN]]
        more = (
            f" So are {len(refused) - 1:,} more: {', '.join(names)}{', ...' * (len(refused) > SHOWN)}." if names else ""
        )
        advice = (
            " data.on_bad = 'skip' leaves such files out." if on_bad == "error" and not judged & set(refused) else ""
        )
        raise InputError(f"{first}{more}{advice}")
    shown = " ".join(list(bad.values())[:SHOWN])
    warnings.warn(
        f"{where}: {len(bad):,} of {len(listing.files):,} files are left out, in no split: {shown}", stacklevel=3
    )


def _refuse_empty(
    splits: Mapping[str, np.ndarray], label: np.ndarray | None, classes: tuple[str, ...], where: str
) -> None:
    """Raises InputError where what was left out is all of a class, or of the training split."""
    train = splits["train"]
    counts = [len(train)] if label is None else np.bincount(label[train], minlength=len(classes))
    for index, count in enumerate(counts):
        if not count:
            what = "train" if label is None else f"class {classes[index]!r} in train"
            raise InputError(f"{where}: no readable picture is left of {what}. Replace the files.")
