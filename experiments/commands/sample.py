"""Images of a run that makes images: a picture of them, and a file."""

import math
import pathlib

import jax
import numpy as np

from experiments.experiment import Experiment, prepare
from experiments.stored import chosen_checkpoint, config_of
from jaxrec.engine.program import state_template
from jaxrec.errors import InputError
from jaxrec.output.pictures import grid
from jaxrec.tasks.task import State
from jaxrec.types import Count, Labels, Seed

BATCH = 256  # images made at once
SHOWN = 400  # in the picture, at most


def sample(workdir: pathlib.Path, *, images: Count = 64, seed: Seed = 0, classes: int | Labels | None = None) -> int:
    """Writes samples_<step>_<seed>_<images>.png and .npz into a run's folder, with the classes in the name if given.

    Nothing else of the run is touched, and it may be going on. An image follows from the state, `seed`, its number and
    its class alone, not from how many are made, so a file of this name is never another one's.

    The `.npz` holds "image", uint8 [N, H, W, C], rounded; "label" [N] of a model that makes images of classes; "seed"
    and "step".

    Args:
      workdir: of the run, finished or not: its chosen state, or its newest.
      images: how many.
      seed: of what is drawn.
      classes: of a model that makes images of classes: one after the other, again and again. All of them by default.

    Returns:
      The exit code.

    Raises:
      InputError: there is no such run, it makes no images, or none of these classes.

    Example:
      python launch.py sample --workdir=runs/digits_gan --images=100
    """
    with chosen_checkpoint(workdir, "--workdir") as (checkpoints, step):
        config = config_of(workdir, "--workdir")
        experiment, _, parallel = prepare(config)
        if experiment.generate is None:
            raise InputError(f"--workdir={workdir}: a run of '{config['experiment']}' makes no images.")
        known = len(experiment.conditions)
        wanted = (classes,) if isinstance(classes, int) else classes
        if wanted and not all(0 <= label < known for label in wanted):
            allowed = f"makes classes 0 to {known - 1}" if known else "is not class-conditional"
            raise InputError(f"--classes={classes}: this model {allowed}.")
        state = checkpoints.restore(state_template(experiment.task, experiment.train, parallel), step)
    order = np.array(wanted or range(known), np.int32)
    label = np.resize(order, images) if known else None
    image = draw(experiment, state, images, seed, label)
    name = "_".join(["samples", f"step{step}", f"seed{seed}", f"{images}", *(f"class{one}" for one in wanted or ())])
    arrays = {"image": image, "seed": seed, "step": step, **({"label": label} if known else {})}
    file = workdir / f"{name}.npz"
    np.savez(file, **arrays)
    # About a square, in which each class has columns of its own where there are not too many.
    columns = len(order) * round(math.sqrt(min(images, SHOWN)) / len(order)) if known else 0
    grid(file.with_suffix(".png"), image[:SHOWN], columns=columns or None)
    shown = f" (the first {SHOWN})" * (images > SHOWN)
    print(f"{images} images of step {step}: {file} and {file.with_suffix('.png')}{shown}")
    return 0


def draw(experiment: Experiment, state: State, images: int, seed: int, label: np.ndarray | None) -> np.ndarray:
    """Makes uint8 images [N, H, W, C], each under the key of (seed, its number), of the labels [N] if any.

    Raises:
      InputError: they are not finite numbers.
    """
    generate, size, parts = jax.jit(experiment.generate), min(images, BATCH), []
    numbers = np.arange(-(-images // size) * size, dtype=np.uint32).reshape(-1, size)
    labels = [None] * len(numbers) if label is None else np.resize(label, numbers.shape)
    for part, own in zip(numbers, labels, strict=True):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), part)
        parts.append(np.asarray(generate(state, keys, own)))
    made = np.concatenate(parts)[:images]
    if not np.isfinite(made).all():
        raise InputError("This run makes images that are not finite: it has diverged. Take another one.")
    return np.round(np.clip(made, 0, 1) * 255).astype(np.uint8)
