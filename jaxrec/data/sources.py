"""Where images come from. A config names one of these functions; each returns a `Dataset` with separate splits.

A set that fits in memory becomes one array; TFDS sets are read once and cached as `.npz`, so that later runs start
without TensorFlow. This is the only module that imports TensorFlow: late, and with every accelerator hidden from it,
because it would take all of their memory.
"""

import hashlib
import os
import pathlib
import zipfile
import zlib
from types import ModuleType

import numpy as np

from jaxrec.data.batches import Dataset
from jaxrec.errors import InputError, did_you_mean
from jaxrec.machine.folders import cache_folder, data_folder
from jaxrec.types import Count, Rate, Seed

TEST_SHARE = 0.2  # held out as the test split where a set has none


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
    parts = {"train": (image, bunch.target)}
    return _dataset(parts, [str(name) for name in bunch.target_names], validation, split_seed)


def npz(*, path: str, validation: Rate = 0.1, split_seed: Seed = 0) -> Dataset:
    """Arrays from an `.npz` file: x_train [N, H, W, C] or [N, H, W], y_train [N]; likewise x_validation, x_test.

    Args:
      path: of the file. It may also hold `classes`, the K class names.
      validation: share of train held out where the file has no validation arrays; 0 holds none out.
      split_seed: which ones.

    Raises:
      InputError: the file is missing, no `.npz`, holds pickled objects, or its arrays are not labelled images.
    """
    return _dataset(*_load(path), validation, split_seed)


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
        arrays = {f"{kind}_{split}": a for split, xy in parts.items() for kind, a in zip("xy", xy, strict=True)}
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, classes=np.array(classes), **arrays)
        partial.replace(cache)  # a killed run leaves no half-written cache
    cache = _cache_file(dataset, info)
    try:
        parts, classes = _load(str(cache))
    except InputError as error:
        raise InputError(f"data.dataset = {dataset!r}: {error} It is a cache: delete it and run again.") from None
    return _dataset(parts, classes, validation, split_seed)


def _load(path: str) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], list[str] | None]:
    """The splits and the class names, or None, of an `.npz` file."""
    try:
        # Opened here, for np.load leaves a file open that it cannot read.
        with pathlib.Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise InputError(f"data.path = {path!r}: no such file. Looked in {pathlib.Path(path).absolute()}.") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"data.path = {path!r}: not an .npz file of plain arrays ({error}).") from None
    parts = {
        split: (arrays[f"x_{split}"], arrays[f"y_{split}"])
        for split in ("train", "validation", "test")
        if f"x_{split}" in arrays and f"y_{split}" in arrays
    }
    if "train" not in parts:
        raise InputError(f"data.path = {path!r}: needs arrays x_train and y_train, holds {sorted(arrays)}.")
    classes = [str(name) for name in arrays["classes"]] if "classes" in arrays else None
    return parts, classes


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


def _read(builder, dataset: str, max_bytes: int) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], list[str]]:
    """Reads every split of a prepared set into arrays, in the records' own order."""
    features = builder.info.features
    if not {"image", "label"} <= set(features or {}):
        raise InputError(f"data.dataset = {dataset!r}: needs features image and label, has {sorted(features or {})}.")
    shape = features["image"].shape
    splits = [name for name in ("train", "validation", "test") if name in builder.info.splits]
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
        parts[split] = image, label
    return parts, list(features["label"].names)


def _dataset(
    parts: dict[str, tuple[np.ndarray, np.ndarray]], classes: list[str] | None, validation: float, split_seed: int
) -> Dataset:
    """Joins the splits into one array each and holds out the splits that are missing.

    Without names, the classes are the numbers from 0 to the largest label.
    """
    for split, (x, y) in parts.items():
        pixels = x.dtype == np.uint8 or x.dtype.kind == "f"
        if x.ndim not in (3, 4) or y.shape != x.shape[:1] or not pixels or y.dtype.kind not in "iu":
            raise InputError(
                f"The {split} split needs images [N, H, W, C] or [N, H, W] of uint8 or float and whole-number labels "
                f"[N]; got {x.dtype}{list(x.shape)} and {y.dtype}{list(y.shape)}."
            )
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise InputError(f"The {split} images hold NaN or infinite values.")
        if (x.shape[1:], x.dtype.kind) != (parts["train"][0].shape[1:], parts["train"][0].dtype.kind):
            raise InputError(
                f"The {split} images are {x.dtype}{list(x.shape)}, the train images {parts['train'][0].dtype}"
                f"{list(parts['train'][0].shape)}: all splits need one size and one type."
            )
    if classes is None:
        classes = [str(label) for label in range(int(max(y.max(initial=0) for _, y in parts.values())) + 1)]
    for split, (_, y) in parts.items():
        if len(y) and not 0 <= y.min() <= y.max() < len(classes):
            raise InputError(
                f"The {split} labels reach from {y.min()} to {y.max()}; {len(classes)} classes allow 0 to "
                f"{len(classes) - 1}."
            )
    image = np.concatenate([x for x, _ in parts.values()])
    image = image if image.dtype == np.uint8 else image.astype(np.float32)
    image = image if image.ndim == 4 else image[..., None]
    label = np.concatenate([y for _, y in parts.values()]).astype(np.int32)
    stops = np.cumsum([len(y) for _, y in parts.values()])
    splits = {
        split: np.arange(stop - len(y), stop, dtype=np.int32)
        for (split, (_, y)), stop in zip(parts.items(), stops, strict=True)
    }
    if "test" not in splits:
        splits["train"], splits["test"] = _hold_out(splits["train"], label, TEST_SHARE, seed=0)
    if "validation" not in splits and validation:
        splits["train"], splits["validation"] = _hold_out(splits["train"], label, validation, split_seed)
    order = [split for split in ("train", "validation", "test") if split in splits]
    return Dataset(image, label, {split: splits[split] for split in order}, tuple(classes))


def _hold_out(ids: np.ndarray, label: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits ids into (kept, held out), each class in the same proportion."""
    from sklearn.model_selection import train_test_split  # takes a second to import

    try:
        kept, held = train_test_split(ids, test_size=share, random_state=seed, stratify=label[ids])
    except ValueError as error:
        raise InputError(f"Holding {share:.0%} of {len(ids)} examples out by class failed: {error}") from None
    return np.sort(kept), np.sort(held)
