"""The batches of an experiment on images, from its sections `train` and `data`."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.experiment import Data, Train
from experiments.settings.make import make
from jaxrec.data import sources
from jaxrec.data.batches import Batches, Dataset, Transform, eval_batches, train_batches
from jaxrec.errors import InputError
from jaxrec.types import Count


class Images(NamedTuple):
    """Images read, and what they are turned into batches by."""

    dataset: Dataset
    steps: int  # of the run
    batches: Callable[[Transform, Transform], tuple[Batches, Mapping[str, Batches]]]

    @property
    def shown(self) -> np.ndarray:
        """The images of the train split, as they are stored."""
        return self.dataset.image[self.dataset.splits["train"]]

    @property
    def notes(self) -> dict[str, Any]:
        """What a run on images left in [0, 1] remembers of them."""
        channels = self.dataset.image.shape[-1]
        return {"classes": self.dataset.classes, "mean": [0.0] * channels, "std": [1.0] * channels}


def read_images(
    data: Data, train: Train, *, seed: int, labels: Count | None = None, overfit: Count | None = None
) -> Images:
    """Reads the data of an experiment.

    Args:
      data: the section of the config.
      train: likewise.
      seed: of the order of the training examples, and of which are taken.
      labels: train on this many images of the train split, drawn by the seed, equally many of each class as far as
        there are: those of a smaller number are among those of a larger one.
      overfit: train and evaluate on this many images of the train split alone, for as many steps as the whole split
        would take.

    Returns:
      Images, whose `batches(learn, judge)` gives shuffled batches of the train split under the transform `learn`, and
      one pass over each split under the transform `judge`.

    Raises:
      InputError: the train split has fewer than `labels` images.
    """
    dataset = make(sources, data)()
    if labels:
        ids = dataset.splits["train"]
        if labels > len(ids):
            raise InputError(f"config.labels = {labels}: the train split has {len(ids)} images. Use fewer.")
        drawn = in_turn(np.random.default_rng(seed).permutation(ids), dataset.label)[:labels]
        dataset = dataset._replace(splits={**dataset.splits, "train": np.sort(drawn)})
    steps = train.steps or math.ceil(train.epochs * len(dataset.splits["train"]) / train.batch_size)
    if overfit:
        ids = dataset.splits["train"][:overfit]
        dataset = dataset._replace(splits={"train": ids, "validation": ids})
    arrays = {"image": dataset.image, "label": dataset.label}

    def batches(learn: Transform, judge: Transform) -> tuple[Batches, Mapping[str, Batches]]:
        ids = dataset.splits["train"]
        shuffled = train_batches(arrays, ids=ids, seed=seed, batch_size=train.batch_size, transform=learn)
        splits = {
            split: eval_batches(arrays, ids=ids, batch_size=train.batch_size, transform=judge)
            for split, ids in dataset.splits.items()
        }
        return shuffled, splits

    return Images(dataset, steps, batches)


def in_turn(ids: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The ids in an order that takes classes in turn: the first of each class, then the second of each, and so on.

    Args:
      ids: [n], of examples.
      label: [N], of all examples.
    """
    own = label[ids]
    by_class = np.argsort(own, kind="stable")
    counts = np.bincount(own)
    place = np.empty_like(by_class)  # of each in its class
    place[by_class] = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ids[np.lexsort((own, place))]


def check_unit_range(dataset: Dataset, what: str) -> None:
    """Raises InputError, beginning with `what`, unless images are in [0, 1], as bytes are once they are scaled."""
    image = dataset.image
    if image.dtype != np.uint8 and not (image.min() >= 0 and image.max() <= 1):
        raise InputError(f"{what} images in [0, 1]: store uint8, or divide by the largest.")
