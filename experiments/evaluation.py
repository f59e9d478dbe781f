"""A recogniser's run measured again: on a split of its own data, on other data, on images that something is done to.

Images are scaled by what the run has noted, never by the data at hand.
"""

import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.experiment import Train
from experiments.images import images_of, in_unit_range
from experiments.restored import evaluation_transform, several_labels, task_of
from experiments.settings.make import make
from experiments.settings.specs import DataSpec
from experiments.stored import check_same_data, notes_of, recogniser_of, state_of
from jaxrec.data import transforms
from jaxrec.data.batches import Batches, Dataset, Transform, eval_batches, unchanged
from jaxrec.data.checks import some
from jaxrec.engine.evaluation import evaluator
from jaxrec.engine.lowering import placer
from jaxrec.errors import InputError
from jaxrec.metrics import Metrics, Rows
from jaxrec.output.workdir import why_not_written
from jaxrec.sharding import data_parallel
from jaxrec.tasks.task import State
from jaxrec.types import Array, Batch


class Evaluation(NamedTuple):
    """A run and the data that it is to be measured on.

    Attributes:
      config: of the run.
      notes: what it has noted of its own data.
      step: whose state is measured.
      dataset: the data.
      batches: (split, a transform of the images before they are scaled) -> one pass; the split may be "all" of them.
      metrics: of a pass, as an evaluation of the run itself gives them.
      answers: of a pass, the logits [N, K] of what predicts, the moving average where there is one, and the labels.
    """

    config: Mapping[str, Any]
    notes: Mapping[str, Any]
    step: int
    dataset: Dataset
    batches: Callable[[str, Transform], Batches]
    metrics: Callable[[Batches], Mapping[str, float | np.ndarray]]
    answers: Callable[[Batches], tuple[np.ndarray, np.ndarray]]

    @property
    def several(self) -> bool:
        """Whether an image may have several labels."""
        return several_labels(self.config, self.notes)


def check_takes_results(folder: pathlib.Path, what: str) -> None:
    """Raises InputError where a run is there and its folder, where results go, cannot be written."""
    if folder.is_dir() and why_not_written(folder / "results"):
        raise InputError(f"{what} = '{folder}': results go there, and it cannot be written. Copy the run elsewhere.")


def evaluation_of(
    folder: pathlib.Path, what: str, data: Mapping[str, Any] | None = None, where: str = "data"
) -> Evaluation:
    """Reads a run and data.

    Args:
      folder: of the run.
      what: names it, as the user knows it, in what this raises.
      data: the section of other data; the run's own by default, with the same splits.
      where: names these data, likewise.

    Raises:
      InputError: there is no such run, or the data are not of its images and classes.
    """
    state, step = state_of(folder, what)
    config, notes = recogniser_of(folder, what), notes_of(folder, what, "shape", "classes")
    train, parallel = Train(**config["train"]), data_parallel()
    parallel.check_batch(train.batch_size)
    if data is None:
        images = images_of(config)
        found = images.notes
        check_same_data(folder, notes, {name: found[name] for name in ("splits", "contents")})
        dataset = images.dataset
    else:
        dataset = make(DataSpec, data)()
    relabel = _check(dataset, notes, several_labels(config, notes), where if data else f"The data of {folder}")
    scale = evaluation_transform(notes)
    task = task_of(config, notes, ema=config["updates"]["ema"])
    state = parallel.everywhere(state)
    template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=parallel.whole), state)
    key = parallel.everywhere(jax.random.key(config["seed"]))
    evaluate = evaluator(task.eval_step, template, key, parallel=parallel, place=placer(parallel), compiled=[])

    def batches(split: str, change: Transform = unchanged) -> Batches:
        if split not in (*dataset.splits, "all"):
            raise InputError(f"--split={split}: these data have {', '.join(dataset.splits)}, and all.")
        every = np.unique(np.concatenate(list(dataset.splits.values())))
        return eval_batches(
            dataset.arrays,
            ids=every if split == "all" else dataset.splits[split],
            seed=config["seed"],
            batch_size=train.batch_size,
            transform=transforms.chain(relabel, change, scale),
        )

    def measured(passes: Batches) -> Mapping[str, float | np.ndarray]:
        # A measure of its own for each pass: what is done to the images differs on purpose, and asks for no warning.
        return evaluate(state, passes, lambda *arguments: task.eval_step(*arguments))

    def logits(state: State, batch: Batch, key: Array) -> Metrics:
        answers = {"logits": task.predict_step(state, batch, key), "label": batch["label"]}
        return {"": Rows(answers, batch["mask"])}

    def answered(passes: Batches) -> tuple[np.ndarray, np.ndarray]:
        found = evaluate(state, passes, logits)
        if not np.isfinite(found["logits"]).all():
            raise InputError(f"{what} = '{folder}': its answers are not finite, it has diverged. Take another run.")
        return found["logits"], found["label"]

    return Evaluation(config, notes, step, dataset, batches, measured, answered)


def _check(dataset: Dataset, notes: Mapping[str, Any], several: bool, where: str) -> Transform:
    """The transform that gives labels the numbers that the run's classes have, if the data are of the run's kind."""
    ours, theirs = notes["shape"], dataset.image.shape[1:]
    if tuple(ours) != tuple(theirs):
        raise InputError(f"{where}: images of {_by(theirs)}, and the run has learned from {_by(ours)}.")
    if in_unit_range(dataset) != notes.get("unit_range", True):
        raise InputError(
            f"{where}: these images are {'' if in_unit_range(dataset) else 'not '}in [0, 1], unlike the run's."
        )
    label = dataset.label
    if (label.ndim > 1) != several:
        kinds = ("one label", "several labels")
        raise InputError(f"{where}: {kinds[label.ndim > 1]} for each image, and the run has learned {kinds[several]}.")
    numbers = _numbers(dataset.classes, notes["classes"], several, where)
    if numbers is None:
        return unchanged

    def relabel(batch: Batch) -> Batch:
        label = batch["label"]
        return {**batch, "label": label[:, np.argsort(numbers)] if several else jnp.asarray(numbers)[label]}

    return relabel


def _numbers(theirs: Sequence[str], ours: Sequence[str], several: bool, where: str) -> np.ndarray | None:
    """The number that each class of the data has in the run, int32; None where it is the same."""
    theirs, ours = list(theirs), list(ours)
    if theirs == ours:
        return None
    if set(theirs) == set(ours) or (set(theirs) < set(ours) and not several):
        return np.array([ours.index(name) for name in theirs], np.int32)
    nameless = [str(number) for number in range(len(ours))]
    if len(theirs) == len(ours) and nameless in (theirs, ours):
        warnings.warn(
            f"{where}: classes {some(theirs)} and the run's {some(ours)} are matched by number.", stacklevel=2
        )
        return None
    new = [name for name in theirs if name not in ours] or theirs
    raise InputError(
        f"{where}: classes {some(new)}, which the run does not know; its own are {some(ours)}. Name data of these, "
        "or number them alike."
    )


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
