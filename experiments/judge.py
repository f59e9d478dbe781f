"""Metrics of generated images: their distance from real ones, and beside it that of real ones from each other."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.experiment import FinishedRun
from experiments.features import Features, features_of
from jaxrec.data.batches import Dataset
from jaxrec.errors import InputError
from jaxrec.metrics import Metrics, distances
from jaxrec.types import Array


class Judge(NamedTuple):
    """How an experiment measures the images that it generates."""

    # (real [B, H, W, C], generated [B, H, W, C], both in [0, 1], mask [B]) -> metrics, for its evaluation step
    statistics: Callable[[Array, Array, Array], Metrics]
    # for Experiment.analyse: the same numbers of real images against real ones, "real_frechet", ...
    analyse: Callable[[FinishedRun], Mapping[str, Mapping[str, float]]]
    notes: Mapping[str, Any]  # for Experiment.notes
    monitor: str  # the one that chooses the best checkpoint, the smaller the better


def judge_of(folder: str | None, dataset: Dataset, *, by_class: bool = False) -> Judge:
    """How generated images are compared with those of a data set.

    Each split is compared with as many generated images, by `jaxrec.metrics.distances.compare`. `analyse` gives the
    `floor` of each split but train.

    Args:
      folder: of a finished run of `experiment = "classify"` on images of the same shape; without one, the images'
        pixels are their features, and the metrics are named so.
      dataset: the images.
      by_class: whether the generator is told the classes of the split, which the floor's images then have as well.

    Raises:
      InputError: as `features_of`, or the recogniser tells other classes apart. Of images without labels nothing says
        whether they do.
    """
    features = features_of(folder, dataset.image.shape[1:])
    theirs = features.notes.get("classes", dataset.classes)
    if dataset.classes and list(theirs) != list(dataset.classes):
        raise InputError(
            f"features = '{folder}': a recogniser of {', '.join(theirs)}; these images are of "
            f"{', '.join(dataset.classes)}. Name one that was trained on the same data."
        )

    def statistics(real: Array, generated: Array, mask: Array) -> Metrics:
        return distances.pairs(features.rows(real), features.rows(generated), mask)

    def analyse(run: FinishedRun) -> dict[str, dict[str, float]]:
        results = {}
        for split in run.splits:
            ids = dataset.splits[split]
            if split != "train":
                floors = floor(features, dataset, split, dataset.label[ids] if by_class else len(ids))
                results[split] = {f"real_{name}": value for name, value in floors.items()}
        return results

    counts = {split: len(ids) for split, ids in dataset.splits.items()}
    return Judge(
        statistics,
        analyse,
        notes={"features": {**features.notes, "images": counts}},
        monitor="frechet" if folder else "frechet_pixels",
    )


def floor(features: Features, dataset: Dataset, split: str, like: np.ndarray | int) -> dict[str, float]:
    """The real-against-real numbers of a split: with images of train in the generated ones' place.

    So a generator would be judged that draws from the very distribution it learns: its distance is not 0, because
    both sides are finite samples, and disjoint.

    Args:
      features: what the images are compared by.
      dataset: the images.
      split: the name of the split.
      like: the generated images that train's stand for, as in `train_images_like`.
    """
    sides = dataset.splits[split], train_images_like(dataset, like)
    return distances.compare(*(features.of(dataset.image[ids]) for ids in sides))


def train_images_like(dataset: Dataset, like: np.ndarray | int) -> np.ndarray:
    """Ids of train images, drawn once, without replacement while train has enough.

    Args:
      dataset: the images.
      like: the labels [N] that they have, as generated images whose model was told them; or their number N, where they
        are to come as they do.
    """
    train, draw = dataset.splits["train"], np.random.default_rng(0)
    told = isinstance(like, np.ndarray)
    label, wanted = (dataset.label, like) if told else (np.zeros(len(dataset.image)), np.zeros(like))
    found = []
    for value, count in zip(*np.unique(wanted, return_counts=True), strict=True):
        same = train[label[train] == value]
        same = same if len(same) else train  # none of that class to be had
        found.append(draw.choice(same, count, replace=count > len(same)))
    return np.sort(np.concatenate(found))
