"""What generated images are judged by: the features of a recogniser trained here, or the pixels where there is none."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.experiment import Study
from experiments.make import make
from experiments.stored import config_of, learned_by, result_of
from jaxrec import distances, models, preprocess
from jaxrec.data.pipeline import Dataset
from jaxrec.errors import InputError
from jaxrec.metrics import Metrics
from jaxrec.types import Array, PyTree

BATCH = 256  # images at once, where no experiment says how many


class Features(NamedTuple):
    """What is known of an image, and where from.

    `rows` is pure: images [B, H, W, C] in [0, 1] -> {"features": [B, D], "logits": [B, K]}, or {"pixels": [B, D]}. It
    rounds images to the 256 values that a file stores, so that what is measured in training is what a file would give;
    on stored images that changes nothing.
    """

    rows: Callable[[Array], dict[str, Array]]
    notes: Mapping[str, Any]

    def of(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The rows of images [N, H, W, C], uint8 or in [0, 1], on the host."""
        step = jax.jit(self.rows)  # compiled once, however often this is called
        padded = np.pad(images, ((0, -len(images) % BATCH), (0, 0), (0, 0), (0, 0)))
        parts = [
            jax.device_get(step(preprocess.unit_range({"image": jnp.asarray(part)})["image"]))
            for part in np.split(padded, len(padded) // BATCH)
        ]
        return {name: np.concatenate([part[name] for part in parts])[: len(images)] for name in parts[0]}


class Judge(NamedTuple):
    """What an experiment that makes images needs to know of their quality."""

    # (real [B, H, W, C], generated [B, H, W, C], both in [0, 1], mask [B]) -> metrics, for its evaluation step
    statistics: Callable[[Array, Array, Array], Metrics]
    # for Experiment.study: the same numbers of real images against real ones, "real_frechet", ...
    study: Callable[[Study], Mapping[str, Mapping[str, float]]]
    notes: Mapping[str, Any]  # for Experiment.notes
    monitor: str  # the one that chooses the best checkpoint, the smaller the better


def judge_of(folder: str | None, dataset: Dataset, *, by_class: bool = False) -> Judge:
    """How generated images are compared with those of a data set.

    Each split is compared with as many generated images, by `jaxrec.distances.compare`. `study` gives the `floor` of
    each split but train.

    Args:
      folder: of a finished run of `experiment = "classify"` on images of the same shape; without one, the images'
        pixels are their features, and the metrics are named so.
      dataset: the images.
      by_class: whether the generator is told the classes of the split, which the floor's images then have as well.

    Raises:
      InputError: as `features_of`, or the recogniser tells other classes apart.
    """
    features = features_of(folder, dataset.image.shape[1:])
    theirs = features.notes.get("classes", dataset.classes)
    if list(theirs) != list(dataset.classes):
        raise InputError(
            f"features = '{folder}': a recogniser of {', '.join(theirs)}; these images are of "
            f"{', '.join(dataset.classes)}. Name one that was trained on the same data."
        )

    def statistics(real: Array, generated: Array, mask: Array) -> Metrics:
        return distances.pairs(features.rows(real), features.rows(generated), mask)

    def study(study: Study) -> dict[str, dict[str, float]]:
        results = {}
        for split in study.splits:
            ids = dataset.splits[split]
            if split != "train":
                floors = floor(features, dataset, split, dataset.label[ids] if by_class else len(ids))
                results[split] = {f"real_{name}": value for name, value in floors.items()}
        return results

    counts = {split: len(ids) for split, ids in dataset.splits.items()}
    return Judge(
        statistics,
        study,
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
    label, wanted = (dataset.label, like) if told else (np.zeros_like(dataset.label), np.zeros(like, int))
    found = []
    for value, count in zip(*np.unique(wanted, return_counts=True), strict=True):
        same = train[label[train] == value]
        same = same if len(same) else train  # none of that class to be had
        found.append(draw.choice(same, count, replace=count > len(same)))
    return np.sort(np.concatenate(found))


def features_of(folder: str | None, shape: tuple[int, ...]) -> Features:
    """The features of images of a shape (H, W, C): a recogniser's logits and the layer before, or pixels for None.

    "features" is the input of the network's last dense layer (the penultimate layer's output), caught where the layer
    is called: in the state that the run chose, its moving average where it has one, images standardised as there.

    Raises:
      InputError: the folder holds no finished recogniser, or one of images of another shape.
    """
    if folder is None:
        notes = {"layer": f"pixels in [0, 1], D = {np.prod(shape)}", "rounding": "uint8"}
        return Features(lambda image: {"pixels": _rounded(image).reshape(len(image), -1)}, notes)
    what = "features"
    variables, step, average = learned_by(pathlib.Path(folder), what)
    config = config_of(pathlib.Path(folder), what)
    result = result_of(pathlib.Path(folder))
    if config["experiment"] != "classify":
        raise InputError(f"{what} = '{folder}': a run of '{config['experiment']}'. Name a run of 'classify'.")
    if result is None:
        raise InputError(f"{what} = '{folder}': that run is not finished. Let the same command finish it first.")
    notes = result["notes"]
    if tuple(notes.get("shape", ())) != tuple(shape):
        theirs = "x".join(map(str, notes.get("shape", ()))) or "an unknown shape (an older version's run)"
        raise InputError(
            f"{what} = '{folder}': trained on images of {theirs}, these are {'x'.join(map(str, shape))}. Name a "
            "recogniser of such images."
        )
    network = make(models, config["model"])(classes=len(notes["classes"]))
    # Host arrays: they become constants of whatever is compiled around them, on any devices.
    params, extra = jax.device_get((variables["params"], variables.get("extra") or {}))
    standardise = preprocess.standardise(*(np.float32(notes[name]) for name in ("mean", "std")))

    def rows(image: Array) -> dict[str, Array]:
        seen = standardise({"image": _rounded(image)})["image"]
        return last_layers(network, {"params": params, **extra}, seen)

    widths = jax.eval_shape(rows, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    test = result["metrics"].get("test", {})
    return Features(
        rows,
        {
            "run": folder,
            "step": step,
            "average": average,
            "test_accuracy": test.get("ema_accuracy" if average else "accuracy"),
            "data": config["data"],
            "classes": notes["classes"],
            "layer": f"input of the last dense layer, D = {widths['features'].shape[1]}; logits, "
            f"K = {widths['logits'].shape[1]}",
            "rounding": "uint8",
        },
    )


def last_layers(network: nn.Module, variables: PyTree, image: Array) -> dict[str, Array]:
    """A recogniser's logits [B, K] of images [B, H, W, C], and "features" [B, D], what its last dense layer is given.

    It is caught where the layer is called, so that no network has to hand it out.
    """
    caught: list[Array] = []

    def catch(call: Callable, arguments: tuple, options: dict, context: Any) -> Any:
        if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
            caught.append(arguments[0])
        return call(*arguments, **options)

    with nn.intercept_methods(catch):
        logits = network.apply(variables, image, train=False)
    return {"features": caught[-1].astype(jnp.float32), "logits": logits.astype(jnp.float32)}


def _rounded(image: Array) -> Array:
    """Images in [0, 1] as they are once saved as bytes."""
    return jnp.round(jnp.clip(image, 0, 1) * 255) / 255
