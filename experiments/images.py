"""The batches of an experiment on images, from its sections `train` and `data`."""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.experiment import Train
from experiments.settings.make import make
from experiments.settings.specs import DataSpec
from jaxrec.data.batches import Batches, Dataset, Transform, eval_batches, train_batches
from jaxrec.data.checks import look_for_classes
from jaxrec.data.fingerprint import fingerprint
from jaxrec.data.splits import fold_splits
from jaxrec.errors import InputError
from jaxrec.types import Count, Whole

SAMPLE = 1024  # images of a stream that are held in memory, where an array would be
MOST_STEPS = np.iinfo(np.int32).max  # that a state counts


class Fold(NamedTuple):
    """Which run of a cross-validation this is; of 1 there is none, and the splits are those of the data."""

    number: Whole = 0  # of the fold that is this run's test split
    of: Count = 1  # folds of what the data have to train on and to choose by; their own test split is left out


class Images(NamedTuple):
    """A data set, the length of the run on it, and the function that makes batches of it."""

    dataset: Dataset
    steps: int  # of the run
    batches: Callable[[Transform, Transform], tuple[Batches, Mapping[str, Batches]]]

    @property
    def shown(self) -> np.ndarray:
        """The images of the train split, as they are stored; of a stream `SAMPLE` of them."""
        ids = self.dataset.splits["train"]
        return self.dataset.image[ids[sample_of(self.dataset, ids)]]

    @property
    def notes(self) -> dict[str, Any]:
        """For `Experiment.notes`, of images that are not standardised."""
        channels = self.dataset.image.shape[-1]
        notes = {"classes": self.dataset.classes, "mean": [0.0] * channels, "std": [1.0] * channels}
        notes |= {"splits": _digest(self.dataset), "contents": fingerprint(self.dataset)}
        return {**notes, "skipped": self.dataset.skipped} if self.dataset.skipped else notes


def read_images(
    data: DataSpec,
    train: Train,
    *,
    seed: int,
    fold: Fold = Fold(),
    train_images: Count | None = None,
    overfit: Count | None = None,
) -> Images:
    """Reads the data of an experiment.

    Args:
      data: the section of the config.
      train: likewise.
      seed: of the order of the training examples, and of which are taken.
      fold: the run's part of a cross-validation. All folds take the same number of steps, that of their mean size.
      train_images: train on this many images of the train split, drawn by the seed, equally many of each class as far
        as there are and each image has one: those of a smaller number are among those of a larger one.
      overfit: train and evaluate on this many images of the train split alone, for as many steps as the whole split
        would take.

    Returns:
      Images, whose `batches(train_transform, eval_transform)` gives shuffled batches of the train split under the
      first transform, and one pass over each split under the second.

    Raises:
      InputError: the train split has fewer than `train_images` images, or the run would never end.
    """
    dataset = make(DataSpec, data)()
    examples: float = len(dataset.splits["train"])
    if fold.of > 1:
        if overfit:
            raise InputError(
                "config.overfit takes training images alone, and a fold is held out: leave one of them out."
            )
        splits = fold_splits(dataset.splits, dataset.one_label, **fold._asdict(), seed=seed, where="config.fold")
        dataset, examples = dataset._replace(splits=splits), examples * (fold.of - 1) / fold.of
        look_at_classes(dataset, "config.fold")
    if train_images:
        ids = dataset.splits["train"]
        if train_images > len(ids):
            raise InputError(f"config.train_images = {train_images}: the train split has {len(ids)} images. Use fewer.")
        drawn = in_turn(np.random.default_rng(seed).permutation(ids), dataset.one_label)[:train_images]
        dataset = dataset._replace(splits={**dataset.splits, "train": np.sort(drawn)})
        examples = train_images
        look_at_classes(dataset, f"config.train_images = {train_images}")
    steps = _steps(train, examples)
    if overfit:
        ids = dataset.splits["train"][:overfit]
        dataset = dataset._replace(splits={"train": ids, "validation": ids})

    def batches(train_transform: Transform, eval_transform: Transform) -> tuple[Batches, Mapping[str, Batches]]:
        ids = dataset.splits["train"]
        # A few images to learn by heart fill a batch, each as often as the others.
        ids = np.tile(ids, -(-train.batch_size // len(ids))) if overfit else ids
        shuffled = train_batches(
            dataset.arrays, ids=ids, seed=seed, batch_size=train.batch_size, transform=train_transform
        )
        splits = {
            split: eval_batches(
                dataset.arrays, ids=ids, seed=seed, batch_size=train.batch_size, transform=eval_transform
            )
            for split, ids in dataset.splits.items()
        }
        return shuffled, splits

    return Images(dataset, steps, batches)


def look_at_classes(dataset: Dataset, where: str) -> None:
    """Warns of classes that are not learned, where images have one label each."""
    if dataset.one_label is not None:
        look_for_classes(dataset.label, dataset.splits, dataset.classes, where)


def images_of(config: Mapping[str, Any]) -> Images:
    """The images of a config that is checked and complete. Errors as in `read_images`."""
    options = {name: config[name] for name in ("seed", "train_images", "overfit") if name in config}
    if "fold" in config:
        options["fold"] = Fold(**config["fold"])
    return read_images(config["data"], Train(**config["train"]), **options)


def sample_of(dataset: Dataset, ids: np.ndarray) -> np.ndarray:
    """Where in `ids` those lie that are looked at as one array: everywhere; in a stream at `SAMPLE` even distances."""
    if isinstance(dataset.image, np.ndarray) or len(ids) <= SAMPLE:
        return np.arange(len(ids))
    return np.linspace(0, len(ids) - 1, SAMPLE).round().astype(int)


def _digest(dataset: Dataset) -> str:
    """Of which examples are in which split, under which labels; what they hold is another, `fingerprint`."""
    found = hashlib.sha256()
    for split, ids in dataset.splits.items():
        label = dataset.label[ids] if "label" in dataset.arrays else np.zeros(0)
        found.update(f"{split} {len(ids)}".encode() + ids.astype(np.int64).tobytes() + label.astype(np.int64).tobytes())
    return found.hexdigest()[:16]


def _steps(train: Train, examples: float) -> int:
    """The steps of a run on so many examples."""
    steps = train.steps or train.epochs * examples / train.batch_size
    if not steps <= MOST_STEPS:
        asked = f"steps = {train.steps}" if train.steps else f"epochs = {train.epochs:g}, {steps:.3g} steps"
        raise InputError(f"config.train.{asked}: steps are counted to {MOST_STEPS:,} (int32). Use fewer.")
    return math.ceil(steps)


def in_turn(ids: np.ndarray, label: np.ndarray | None) -> np.ndarray:
    """The ids in an order that takes classes in turn: the first of each class, then the second of each, and so on.

    Args:
      ids: [n], of examples.
      label: [N], of all examples; None leaves the order as it is.
    """
    if label is None:
        return ids
    own = label[ids]
    by_class = np.argsort(own, kind="stable")
    counts = np.bincount(own)
    place = np.empty_like(by_class)  # of each in its class
    place[by_class] = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ids[np.lexsort((own, place))]


def check_one_label(dataset: Dataset, what: str) -> np.ndarray:
    """The labels [N]. Raises InputError, beginning with `what`, unless each image has one."""
    if dataset.one_label is None:
        have = f"have {dataset.label.shape[1]} for each" if "label" in dataset.arrays else "have none"
        raise InputError(f"{what} one label for each image, and these data {have}. Leave it out, or add y_train, ...")
    return dataset.one_label


def in_unit_range(dataset: Dataset) -> bool:
    """Whether images are in [0, 1], as bytes are once they are scaled."""
    image = dataset.image
    return image.dtype == np.uint8 or bool(image.min() >= 0 and image.max() <= 1)


def check_unit_range(dataset: Dataset, what: str) -> None:
    """Raises InputError, beginning with `what`, unless images are in [0, 1]."""
    if not in_unit_range(dataset):
        raise InputError(f"{what} images in [0, 1]: store uint8, or divide by the largest.")
