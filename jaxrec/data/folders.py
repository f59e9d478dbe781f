"""Pictures of your own: a folder or a CSV becomes a `Dataset`. A config names `folder`.

A set that fits is decoded once, in parallel, and kept as one array in the user's cache folder, under a digest of all
that matters: a changed folder never meets an old cache.
"""

import math
import pathlib
import warnings
from collections.abc import Mapping
from typing import Literal

import numpy as np

from jaxrec.data import duplicates
from jaxrec.data.batches import Dataset
from jaxrec.data.cache import kept_arrays
from jaxrec.data.directories import list_directory
from jaxrec.data.listing import Files, Listing
from jaxrec.data.pictures import shown
from jaxrec.data.splits import with_held_out
from jaxrec.data.streaming import Stream, check_keys
from jaxrec.data.survey import digest, look_at, one_size
from jaxrec.data.tables import list_table
from jaxrec.errors import InputError
from jaxrec.machine.folders import cache_folder
from jaxrec.types import Count, Rate, Seed, Share, Widths

SHOWN = 3  # bad files that a message names


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
    kept, stamp = cache_folder() / "datasets", digest(listing.files)
    stored = {} if size else kept_arrays(kept / f"size-{stamp}.npz", lambda: {"size": one_size(listing.files, where)})
    shape = (*(height_and_width(size) or map(int, stored["size"])), channels)
    fits = len(listing.files) * math.prod(shape) <= max_bytes
    streamed = stream if stream is not None else random_area is not None or not fits
    if streamed and near_duplicates:
        raise InputError("data.near_duplicates compares images in memory: leave it out, or set data.stream = False.")
    if not streamed:
        _check_size((len(listing.files), *shape), max_bytes, where)
    cache = kept / f"{'stream' if streamed else 'folder'}-{stamp}-{'x'.join(map(str, shape))}-{crop}.npz"
    arrays = kept_arrays(cache, lambda: look_at(listing.files, shape, crop, hold=not streamed))
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
    splits = with_held_out(splits, label, validation=validation, split_seed=split_seed, where=where)

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


def height_and_width(size: Count | Widths | None) -> tuple[int, int] | None:
    """What `data.size` says: one number for both, or each. Raises InputError for more of them."""
    if size is None or isinstance(size, int):
        return size and (size, size)
    if len(size) != 2:
        raise InputError(f"data.size = {size}: allowed is (height, width), or one number for both.")
    return tuple(size)


def _check_size(shape: tuple[int, ...], max_bytes: int, where: str) -> None:
    """Raises InputError for images uint8 [N, H, W, C] that do not fit."""
    in_all = math.prod(shape)
    if in_all > max_bytes:
        raise InputError(
            f"{where}: {shape[0]:,} images of {' x '.join(map(str, shape[1:]))} are {in_all:,} bytes and do not fit "
            f"data.max_bytes = {max_bytes:,}. Make data.size smaller, or raise data.max_bytes if this machine and "
            "every device can hold the set."
        )


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
