"""Shows what a config trains on, before anything is trained."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.experiment import Experiment, prepare
from experiments.found import found
from jaxrec.data.folders import height_and_width, listed
from jaxrec.output.pictures import contact_sheet

EXAMPLES = 8  # of the first training batch
EPOCHS = 5


def show_data(config: Mapping[str, Any], workdir: pathlib.Path) -> int:
    """Draws the first images of training as they are stored, and below them as the first epochs show them.

    Of a folder of pictures it says first what was found there, and draws it into found.png: also where a file cannot be
    read, or sizes differ, and the config is refused then.

    Args:
      config: of a run, checked and complete.
      workdir: where show_data.png goes, and found.png; nothing else is written.

    Returns:
      The exit code.

    Raises:
      InputError: the config does not fit the data or the devices.

    Example:
      python launch.py show_data --config=configs/digits_cnn.py
    """
    workdir.mkdir(parents=True, exist_ok=True)
    if config.get("data", {}).get("name") == "folder":
        sheet = workdir / "found.png"
        print(found(listed(config["data"]["path"]), sheet, height_and_width(config["data"]["size"])))
        print(f"Pictures of each class, the smallest and the largest: {sheet}")
    experiment, _, _ = prepare(config)
    batch = experiment.train.host(0)
    ids = batch["id"][:EXAMPLES]
    names, resident = experiment.notes["classes"], experiment.train.resident
    titles = [_title(label, names) for label in resident["label"][ids]] if "label" in resident else ()
    shown = {f"epoch {epoch}": _seen(experiment, batch, epoch)[:EXAMPLES] for epoch in range(EPOCHS)}
    picture = workdir / "show_data.png"
    stored = resident["image"][ids] if "image" in resident else batch["image"][:EXAMPLES]  # of a stream, as it is read
    contact_sheet(picture, {"stored": stored, **shown}, titles)
    counts = ", ".join(f"{split} {batches.examples:,}" for split, batches in experiment.splits.items())
    print(f"Examples: {counts}")
    print(f"{len(ids)} training images, stored and as the first {EPOCHS} epochs show them: {picture}")
    return 0


def _title(label: np.ndarray, names: Sequence[str]) -> str:
    """The name of an image's class, or of each of several, [K] of 0 and 1."""
    return ", ".join(names[index] for index in (np.flatnonzero(label) if label.ndim else [label]))


def _seen(experiment: Experiment, rows: Mapping[str, np.ndarray], epoch: int) -> np.ndarray:
    """What the model is shown of a batch in an epoch, [B, H, W, C] back in [0, 1]."""
    rows = {**rows, "epoch": np.full_like(rows["epoch"], epoch)}
    mean, std = (np.float32(experiment.notes[name]) for name in ("mean", "std"))
    image = jax.jit(experiment.train.fetch)(experiment.train.resident, rows)["image"]
    return np.asarray(image) * std + mean
