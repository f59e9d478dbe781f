"""Where images come from. A config names one of these functions; each returns a `Dataset` with separate splits.

A set that fits in memory becomes one array; TFDS sets are read once and cached as `.npz`, so that later runs start
without TensorFlow. This is the only module that imports TensorFlow: late, and with every accelerator hidden from it,
because it would take all of their memory.
"""

import hashlib
import os
import pathlib
import warnings
import zipfile
import zlib
from types import ModuleType

import numpy as np

from jaxrec.data.batches import Dataset
from jaxrec.data.checks import LETTERS, Parts, array_name, checked, look_for_classes
from jaxrec.data.splits import SPLITS, with_held_out
from jaxrec.errors import InputError, did_you_mean
from jaxrec.machine.folders import cache_folder, data_folder
from jaxrec.types import Count, Rate, Seed


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
) -> Dataset:
    """A TensorFlow Datasets image-classification set by its name: mnist, fashion_mnist, cifar10, ...

    Args:
      dataset: the TFDS name, "name" or "name/config".
      validation: share of train held out where the set has no validation split; 0 holds none out.
      split_seed: which ones.
      data_dir: where TFDS keeps its sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
      max_bytes: the largest set to hold in memory.

    Raises:
      InputError: the set is unknown, not prepared, not of equally large labelled images, or
        larger than `max_bytes`.
    """
    root = pathlib.Path(data_dir).expanduser() if data_dir else data_folder()
    info = _newest(dataset, root)
    if info is None or not _cache_file(dataset, info).exists():
        builder = _prepared(dataset, root)
        parts, classes = _read(builder, dataset, max_bytes)
        # TFDS may have taken another version than the newest, or a default config that `dataset` does not name.
        info = pathlib.Path(builder.data_dir) / "dataset_info.json"
        cache = _cache_file(dataset, info)
        arrays = {array_name(key, split): array for split, part in parts.items() for key, array in part.items()}
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, classes=np.array(classes), **arrays)
        partial.replace(cache)  # a killed run leaves no half-written cache
    cache, where = _cache_file(dataset, info), f"data.dataset = {dataset!r}"
    try:
        parts, classes = _load(str(cache), f"the cache {cache}")
    except InputError as error:
        raise InputError(f"{where}: {error} It is a cache: delete it and run again.") from None
    return _dataset(parts, classes, validation, split_seed, where)


def _load(path: str, where: str) -> tuple[Parts, list[str] | None]:
    """The splits and the class names, or None, of an `.npz` file, as they are stored."""
    try:
        # Opened here, for np.load leaves a file open that it cannot read.
        with pathlib.Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise InputError(f"{where}: no such file. Looked in {pathlib.Path(path).absolute()}.") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
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


def _newest(dataset: str, root: pathlib.Path) -> pathlib.Path | None:
    """The description of the newest version prepared under `root`, or None where none is."""
    versions = (path for path in (root / dataset).glob("*/dataset_info.json") if path.parent.name[0].isdigit())
    return max(versions, key=lambda path: [int(n) for n in path.parent.name.split(".") if n.isdigit()], default=None)


def _cache_file(dataset: str, info: pathlib.Path) -> pathlib.Path:
    """Where the arrays of the prepared set that `info` describes are kept.

    Its name holds a digest of the set's own description (version, splits, shard lengths), so another version or
    another preparation of the set never meets an old cache.
    """
    digest = hashlib.sha256(info.read_bytes()).hexdigest()[:12]
    return cache_folder() / "datasets" / f"{dataset.replace('/', '-')}-{info.parent.name}-{digest}.npz"


def _tensorflow_datasets() -> ModuleType:
    """Imports TFDS, with TensorFlow kept off every accelerator before its first operation."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # of no use to a reader of records, and announced each time
    try:
        import tensorflow as tf
        import tensorflow_datasets
    except ImportError as error:
        raise InputError(
            f"Reading a TFDS set needs tensorflow and tensorflow-datasets ({error}). Install them with "
            "`pip install tensorflow-cpu tensorflow-datasets`, or use data.name = 'npz' or 'digits'."
        ) from None
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tensorflow_datasets


def _prepared(dataset: str, root: pathlib.Path):
    """The TFDS builder of a set that is on disk."""
    tensorflow_datasets = _tensorflow_datasets()
    try:
        builder = tensorflow_datasets.builder(dataset, data_dir=str(root))
    except tensorflow_datasets.core.registered.DatasetNotFoundError:
        names = tensorflow_datasets.list_builders(with_community_datasets=False)
        raise InputError(f"data.dataset = {dataset!r}: no such TFDS set.{did_you_mean(dataset, names)}") from None
    except ValueError as error:
        raise InputError(f"data.dataset = {dataset!r}: {' '.join(str(error).split())}") from None
    if not builder.is_prepared():
        # Downloading belongs to a machine and a moment that the user picks: without a network TFDS tries for minutes.
        raise InputError(
            f"data.dataset = {dataset!r}: not prepared, looked in {builder.data_dir}. Where there is a network, run "
            f"`python -c \"import tensorflow_datasets as tfds; tfds.builder('{dataset}', data_dir='{root}')"
            f'.download_and_prepare()"`, here or elsewhere, and copy {root / dataset} over.'
        )
    return builder


def _read(builder, dataset: str, max_bytes: int) -> tuple[Parts, list[str]]:
    """Reads every split of a prepared set into arrays, in the records' own order."""
    features = builder.info.features
    if not {"image", "label"} <= set(features or {}):
        raise InputError(f"data.dataset = {dataset!r}: needs features image and label, has {sorted(features or {})}.")
    shape = features["image"].shape
    splits = [name for name in SPLITS if name in builder.info.splits]
    if None in shape:
        raise InputError(f"data.dataset = {dataset!r}: its images differ in size {shape}; only one size fits an array.")
    size = sum(builder.info.splits[split].num_examples for split in splits) * int(np.prod(shape))
    if size > max_bytes:
        raise InputError(
            f"data.dataset = {dataset!r}: {size:,} bytes do not fit data.max_bytes = {max_bytes:,}. Raise "
            "data.max_bytes if this machine and every device can hold the set."
        )
    parts = {}
    for split in splits:
        count = builder.info.splits[split].num_examples
        image, label = np.empty((count, *shape), np.uint8), np.empty(count, np.int32)
        records = builder.as_dataset(split=split, shuffle_files=False).batch(1024).prefetch(2)
        start = 0
        for record in records.as_numpy_iterator():
            stop = start + len(record["label"])
            image[start:stop], label[start:stop] = record["image"], record["label"]
            start = stop
        parts[split] = {"image": image, "label": label}
    return parts, list(features["label"].names)


def _dataset(parts: Parts, classes: list[str] | None, validation: float, split_seed: int, where: str) -> Dataset:
    """Joins the splits into one array each and holds out the splits that are missing.

    Args:
      parts: the splits as they were read, train first.
      classes: names, or None: then they are the numbers that label train.
      validation: share of train to hold out.
      split_seed: which ones.
      where: the file or set, for messages.
    """
    parts, names = checked(parts, classes, where)
    arrays = {key: np.concatenate([part[key] for part in parts.values()]) for key in parts["train"]}
    data, start = Dataset(arrays, {}, names), 0
    splits = {}
    for split, part in parts.items():
        stop = start + len(part["image"])
        splits[split] = np.arange(start, stop, dtype=np.int32)
        start = stop
    splits = with_held_out(
        splits,
        data.one_label,
        validation=validation,
        split_seed=split_seed,
        where=where,
        what={split: array_name("image", split) for split in SPLITS},
    )
    if "label" in arrays:
        look_for_classes(data.label, splits, names, where)
    return data._replace(splits=splits)
