"""Where images come from. A config names one of these functions; each returns a `Dataset` with separate splits.

A set that fits in memory becomes one array; TFDS sets are read once and cached as `.npz`, so that later runs start
without TensorFlow. The images of a larger one are a `Stream`.
"""

import pathlib
import warnings

import numpy as np

from jaxrec.data.batches import Dataset
from jaxrec.data.cache import save_arrays
from jaxrec.data.checks import LETTERS, Parts, array_name, checked, look_for_classes
from jaxrec.data.npz import UNREADABLE, opened
from jaxrec.data.prepared import cache_file, newest, prepared
from jaxrec.data.records import Records, read_arrays
from jaxrec.data.splits import SPLITS, with_held_out
from jaxrec.data.streaming import Stream, check_keys
from jaxrec.errors import InputError
from jaxrec.machine.folders import data_folder
from jaxrec.types import Count, Rate, Seed, Share


def digits(*, validation: Rate = 0.1, split_seed: Seed = 0) -> Dataset:
    """The handwritten digits inside scikit-learn: 1,797 grey 8x8 images, 10 classes, nothing to download.

    The set has one split. A fifth is always the same test split, stratified by class.

    Args:
      validation: share of the training examples held out, stratified by class; 0 holds none out.
      split_seed: which ones.
    """
    from sklearn.datasets import load_digits  # takes a second to import

    bunch = load_digits()
    image = np.round(bunch.images[..., None] * (255 / 16)).astype(np.uint8)  # [N, 8, 8, 1]
    parts = {"train": {"image": image, "label": bunch.target}}
    return _dataset(parts, [str(name) for name in bunch.target_names], validation, split_seed, "digits")


def npz(*, path: str, validation: Rate = 0.1, split_seed: Seed = 0) -> Dataset:
    """Arrays of your own from an `.npz` file. Only the first is a must.

    `x_train`: images [N, H, W, C] or [N, H, W], uint8 in [0, 255] or float. `y_train`: labels, [N] whole numbers from 0
    without gaps, or [N, K] of 0 and 1 where an image may have several. `<key>_train`: numbers [N, ...], whatever else
    there is of each image; batches hold it as `<key>`. Likewise `x_validation`, ... and `x_test`, ... where you have
    them. `classes`: the K names.

    Args:
      path: of the file.
      validation: share of train held out where the file has no validation arrays; 0 holds none out.
      split_seed: which ones.

    Raises:
      InputError: the file is missing, no `.npz`, holds pickled objects, or its arrays cannot be meant.
    """
    where = f"data.path = {path!r}"
    return _dataset(*_load(path, where), validation, split_seed, where)


def tfds(
    *,
    dataset: str,
    validation: Rate = 0.1,
    split_seed: Seed = 0,
    data_dir: str | None = None,
    max_bytes: Count = 4_000_000_000,
    size: Count | None = None,
    crop: Share = 1.0,
    random_area: Share | None = None,
    stream: bool | None = None,
    test_split: str = "test",
) -> Dataset:
    """A TensorFlow Datasets image-classification set by its name: mnist, cifar10, imagenet2012, ...

    Args:
      dataset: the TFDS name, "name" or "name/config".
      validation: share of train held out where the set has no validation split; 0 holds none out.
      split_seed: which ones.
      data_dir: where TFDS keeps its sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
      max_bytes: the largest set to hold in memory and on every device; a larger one is streamed.
      size: height and width of the images, where those of the set differ or are too large: scaled so that `size / crop`
        is covered, of which the centre is kept.
      crop: see `size`; 0.875 is usual for ImageNet.
      random_area: in a stream, training sees a part of the picture at random, of at least this share of its area
        (Szegedy et al., 2015: 0.08), scaled to `size`. Only that part of a JPEG is decoded.
      stream: whether images are read and decoded ahead of each step rather than held; by default if they are too many.
      test_split: its name of the test split; of imagenet2012 "validation", since its own test split has no labels.

    Raises:
      InputError: the set is unknown, not prepared, damaged, not of labelled images, of images of several sizes where no
        `size` is given, or larger than `max_bytes` where `stream` is False.
    """
    root, where = pathlib.Path(data_dir).expanduser() if data_dir else data_folder(), f"data.dataset = {dataset!r}"
    ending = "".join([f"-{size}-{crop:g}" * bool(size), f"-{test_split}" * (test_split != "test"), ".npz"])
    check_keys(size, crop, random_area, stream)
    stream = True if random_area is not None else stream
    info = None if stream else newest(dataset, root)
    cache = info and cache_file(dataset, info, ending)
    # A cache is a little larger than its images: a set that fits by less than that is read anew each time.
    if cache is None or not cache.exists() or cache.stat().st_size > max_bytes:
        found = prepared(dataset, root, test_split)
        shape = (size, size, found.shape[2]) if size else found.shape
        if None in shape:
            raise InputError(f"{where}: its images differ in size {shape}. Set data.size, the side of all in pixels.")
        held = sum(found.sizes.values()) * int(np.prod(shape))
        stream = held > max_bytes if stream is None else stream
        if held > max_bytes and not stream:
            raise InputError(
                f"{where}: {held:,} bytes do not fit data.max_bytes = {max_bytes:,}. Leave data.stream out, or raise "
                "data.max_bytes if this machine and every device can hold the set."
            )
        if size or stream or found.by_number:
            records = Records(found)
            images = Stream(records, size=shape[:2], channels=shape[2], crop=crop, random_area=random_area)
            parts, start = {}, 0
            for split, count in found.sizes.items():
                ids = slice(start, start := start + count)
                unread = np.broadcast_to(np.uint8(0), (count, *shape))  # of no size in memory
                parts[split] = {"image": unread if stream else images[ids], "label": records.label[ids]}
                if (records.label[ids] < 0).all():
                    raise InputError(f"{where}: {split} has no labels. Set data.test_split, such as 'validation'.")
            parts = _as_ours(parts, test_split)
            if stream:
                return _dataset(parts, found.classes, validation, split_seed, where, images)
        else:
            parts = _as_ours(read_arrays(found), test_split)
        checked(parts, found.classes, where)  # before they are kept: a set that is mended has the same description
        # TFDS may have taken another version than the newest, or a default config that `dataset` does not name.
        cache = cache_file(dataset, found.description, ending)
        arrays = {array_name(key, split): array for split, part in parts.items() for key, array in part.items()}
        save_arrays(cache, {"classes": np.array(found.classes), **arrays})
    try:
        parts, classes = _load(str(cache), f"the cache {cache}")
    except InputError as error:
        raise InputError(f"{where}: {error} It is a cache: delete it and run again.") from None
    return _dataset(parts, classes, validation, split_seed, where)


def _as_ours(parts: Parts, test_split: str) -> Parts:
    """The parts with the test split called so."""
    return {"test" if split == test_split else split: part for split, part in parts.items()}


def _load(path: str, where: str) -> tuple[Parts, list[str] | None]:
    """The splits and the class names, or None, of an `.npz` file, as they are stored."""
    try:
        with opened(pathlib.Path(path)) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise InputError(f"{where}: no such file. Looked in {pathlib.Path(path).absolute()}.") from None
    except UNREADABLE as error:
        raise InputError(f"{where}: not an .npz file of plain arrays ({error}).") from None
    keys = {letter: key for key, letter in LETTERS.items()}
    parts: dict[str, dict[str, np.ndarray]] = {split: {} for split in SPLITS}
    classes, unread = arrays.pop("classes", None), []
    for name, array in arrays.items():
        letter, _, split = name.rpartition("_")
        text = array.dtype.kind in "OSU" and letter not in LETTERS.values()  # file names and the like: no example's
        if letter and letter not in LETTERS and split in SPLITS and not text:
            parts[split][keys.get(letter, letter)] = array
        else:
            unread.append(name)
    if "image" not in parts["train"]:
        raise InputError(f"{where}: needs an array x_train, and holds {', '.join(sorted(arrays)) or 'none'}.")
    if classes is not None and classes.ndim != 1:
        raise InputError(f"{where}: classes has {classes.ndim} dimensions; it is a name for each class.")
    if classes is not None and not any("label" in part for part in parts.values()):
        classes, unread = None, [*unread, "classes"]
    if unread:
        warnings.warn(
            f"{where}: {', '.join(sorted(unread))} left out: arrays are called <key>_train, <key>_validation or "
            "<key>_test, such as x_train, y_train, segmentation_mask_train, and hold numbers.",
            stacklevel=2,
        )
    names = None if classes is None else [str(name) for name in classes]
    return {split: part for split, part in parts.items() if part}, names


def _dataset(
    parts: Parts,
    classes: list[str] | None,
    validation: float,
    split_seed: int,
    where: str,
    stream: Stream | None = None,
) -> Dataset:
    """Joins the splits into one array each and holds out the splits that are missing.

    Args:
      parts: the splits as they were read, train first.
      classes: names, or None: then they are the numbers that label train.
      validation: share of train to hold out.
      split_seed: which ones.
      where: the file or set, for messages.
      stream: the images of all splits, if those of the parts only say their size.
    """
    parts, names = checked(parts, classes, where)
    keys = [key for key in parts["train"] if key != "image" or stream is None]
    arrays = {key: np.concatenate([part[key] for part in parts.values()]) for key in keys}
    if stream is not None:
        arrays = {"image": stream, **arrays}
    data, start = Dataset(arrays, {}, names), 0
    splits = {}
    for split, part in parts.items():
        stop = start + len(part["image"])
        splits[split] = np.arange(start, stop, dtype=np.int32)
        start = stop
    splits = with_held_out(splits, data.one_label, validation=validation, split_seed=split_seed, where=where)
    if "label" in arrays:
        look_for_classes(data.label, splits, names, where)
    return data._replace(splits=splits)
