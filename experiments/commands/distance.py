"""Compares generated with real images that lie in files: by the features of a run, or by features from elsewhere."""

import pathlib
from typing import Literal

import numpy as np
from rich.table import Table

from experiments.features import Features, features_of
from experiments.judge import floor
from experiments.settings.make import make
from experiments.settings.specs import DataSpec
from jaxrec.data.batches import Dataset
from jaxrec.data.npz import UNREADABLE, opened
from jaxrec.errors import InputError
from jaxrec.metrics.distances import compare
from jaxrec.output.console import plain_console


def distance(
    *,
    generated: str,
    real: str | None = None,
    features: str | None = None,
    split: Literal["validation", "test"] = "test",
) -> int:
    """Prints how far generated images are from real ones (docs/distances.md), and of how many images.

    Args:
      generated: an `.npz` file of "image", uint8 [N, H, W, C], as `sample` writes it; or of "features" [N, D] and,
        where there are any, "logits" [N, K], of Inception for example.
      real: likewise. Where `features` names a run it may be left out: the images are those of the run's own data.
      features: the folder of a finished recogniser, by whose features images are compared; by their pixels without one.
      split: of that run's data, where `real` is left out. The floor is printed as well then, of as many train images,
        and of the same classes where the file has a "label" for each image.

    Returns:
      The exit code.

    Raises:
      InputError: a file or folder does not hold what it should, or not enough of it.

    Example:
      python launch.py distance --generated=samples.npz --features=runs/digits_cnn
    """
    if not real and not features:
        raise InputError("--real=FILE is missing; or name a recogniser's run, --features=RUN, to take its own images.")
    made = _load("generated", generated)
    theirs, floors, where = _load("real", real) if real else {}, {}, "features of the files"
    if features and "image" not in made:
        raise InputError(f"--features={features} is for files of images; {generated} holds features. Leave it out.")
    if "image" in made:
        shape = made["image"].shape[1:]
        source = features_of(features, shape)
        if not real:
            dataset, ids = _own_images(source, split)
            theirs = {"image": dataset.image[ids]}
            floors = floor(source, dataset, split, made.get("label", len(made["image"])))
        if "image" not in theirs or theirs["image"].shape[1:] != shape:
            raise InputError(f"--real={real}: holds no images of the shape of those of {generated}, {shape}.")
        made, theirs = source.of(made["image"]), source.of(theirs["image"])
        where = source.notes["layer"] + f", of {features}" * bool(features)
    numbers = compare({name: rows for name, rows in theirs.items() if name in made}, made)
    if not numbers:
        raise InputError(f"--real={real}: holds no features, {generated} does. Give both of one kind.")
    counts = [len(next(iter(rows.values()))) for rows in (made, theirs)]
    console = plain_console()
    console.print(f"{counts[0]:,} generated and {counts[1]:,} real images; {where}", soft_wrap=True)
    table = Table("", "generated", *["real"] * bool(floors))
    for name in numbers:
        table.add_row(name, *(f"{found[name]:.4f}" for found in (numbers, floors) if found))
    console.print(table)
    return 0


def _own_images(source: Features, split: str) -> tuple[Dataset, np.ndarray]:
    """The data that a recogniser was trained and measured on, and the ids of a split of them."""
    dataset = make(DataSpec, source.notes["data"])()
    if split not in dataset.splits:
        raise InputError(f"--split={split}: the data of {source.notes['run']} have {', '.join(dataset.splits)}.")
    return dataset, dataset.splits[split]


def _load(flag: str, path: str) -> dict[str, np.ndarray]:
    """The features of a file, and logits where it has them; or else its images, and labels where it has them."""
    try:
        with opened(pathlib.Path(path)) as file:
            names = ("features", "logits") if "features" in file.files else ("image", "label")
            arrays = {name: file[name] for name in names if name in file.files}
    except UNREADABLE as error:
        raise InputError(f"--{flag}={path}: not an .npz file of plain arrays ({error}).") from None
    image = arrays.get("image")
    if not {"features", "image"} & set(arrays) or (image is not None and (image.ndim != 4 or image.dtype != np.uint8)):
        raise InputError(
            f"--{flag}={path}: needs an array 'image', uint8 [N, H, W, C], or 'features' [N, D], and may have 'logits'."
        )
    if "label" in arrays and arrays["label"].shape != (len(image),):
        raise InputError(
            f"--{flag}={path}: 'label' has the shape {arrays['label'].shape}, not a number for each image."
        )
    return arrays
