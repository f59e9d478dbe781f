"""The batches of an experiment on images, from its sections `train` and `data`."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from experiments.experiment import Data, Train
from experiments.make import make
from jaxrec.data import sources
from jaxrec.data.pipeline import Batches, Dataset, Transform, eval_batches, train_batches
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


def read_images(data: Data, train: Train, *, seed: int, overfit: Count | None = None) -> Images:
    """Reads the data of an experiment.

    Args:
      data: the section of the config.
      train: likewise.
      seed: of the order of the training examples.
      overfit: train and evaluate on this many images of the train split alone, for as many steps as the whole split
        would take.

    Returns:
      Images, whose `batches(learn, judge)` gives shuffled batches of the train split under the transform `learn`, and
      one pass over each split under the transform `judge`.
    """
    dataset = make(sources, data)()
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


def check_unit_range(dataset: Dataset, what: str) -> None:
    """Raises InputError, beginning with `what`, unless images are in [0, 1], as bytes are once they are scaled."""
    image = dataset.image
    if image.dtype != np.uint8 and not (image.min() >= 0 and image.max() <= 1):
        raise InputError(f"{what} images in [0, 1]: store uint8, or divide by the largest.")
