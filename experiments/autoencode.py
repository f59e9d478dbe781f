"""Reconstruction: a code for each image, from which the image can be made again."""

import inspect
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np
from flax import linen as nn

from experiments.experiment import Experiment, FinishedRun, Train
from experiments.images import Fold, check_unit_range, in_turn, read_images, sample_of
from experiments.settings.make import make
from experiments.settings.specs import AugmentSpecs, AutoencoderSpec, DataSpec, OptimizerSpec, ReconstructionSpec
from experiments.updates import Updates, make_optimizer, rate_of
from jaxrec import metrics
from jaxrec.data import transforms
from jaxrec.data.batches import Batches, Dataset, Transform
from jaxrec.engine.hooks import every
from jaxrec.engine.loop import Hook, Moment
from jaxrec.losses import reconstruction
from jaxrec.metrics import Metrics, probes
from jaxrec.output.layers import layer_table
from jaxrec.output.pictures import contact_sheet, filter_grid
from jaxrec.tasks.average import averaged, with_average
from jaxrec.tasks.gradients import accumulated
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.task import State
from jaxrec.types import Array, Batch, Count, Key, Seed

COLUMNS = 10  # images of a sheet
SHEETS = 10  # that are drawn over each other during a run


def build(
    *,
    train: Train,
    data: DataSpec,
    model: AutoencoderSpec,
    loss: ReconstructionSpec,
    optimizer: OptimizerSpec,
    updates: Updates = Updates(),
    seed: Seed = 0,
    augment: AugmentSpecs = (),
    corrupt: AugmentSpecs = (),
    monitor: Literal["squared_error", "loss", "psnr", "ssim"] = "squared_error",
    fold: Fold = Fold(),
    overfit: Count | None = None,
) -> Experiment:
    """An autoencoder trained on images in [0, 1], and what its codes are worth beside the principal components.

    The baseline is the PCA of the images of the train split, with codes of the same size; of a stream, of a sample of
    them, on a sample of each split. Where inputs are corrupted,
    the metrics are those of corrupted inputs, in evaluation as in training, against the clean image; the codes that
    are probed, and "clean_squared_error", are those of clean inputs.

    Args:
      train: how long, in which batches, on which devices.
      data: the source of the images. Labels are used for the probes and the map alone, which are left out where there
        are none or several for an image.
      model: the network; its `shape` is set to the images'.
      loss: what is minimised.
      optimizer: of jaxrec or optax.
      updates: what is done to gradients before it and to its updates behind it; the moving average, whose codes are
        analysed.
      seed: of the initial parameters, the order of the examples, augmentation and corruption.
      augment: what training images go through, one after the other; it is the changed image that is to be made again.
      corrupt: what inputs go through after that, in training and evaluation; the image before it is to be made again.
      monitor: the metric on validation that chooses the best checkpoint and, with train.patience, ends a run.
      fold: the run's part of a cross-validation, which `launch.py cross_validate` sets.
      overfit: train and evaluate on this many images of the train split alone, as they are and for as many steps as
        the whole split would take, to see whether a network can learn.
    """
    images = read_images(data, train, seed=seed, fold=fold, overfit=overfit)
    dataset = images.dataset
    check_unit_range(dataset, "An autoencoder takes")
    changes, corruptions = ([make(AugmentSpecs, spec) for spec in specs] for specs in (augment, corrupt))
    if overfit:
        changes, corruptions = [], []
    randomise = transforms.augmented(changes) if changes else transforms.unit_range
    shown = transforms.corrupted(corruptions) if corruptions else transforms.unit_range
    shuffled, splits = images.batches(transforms.chain(randomise, shown), shown)
    _, clean = images.batches(transforms.unit_range, transforms.unit_range)
    network = make(AutoencoderSpec, model)(shape=dataset.image.shape[1:])
    error = make(ReconstructionSpec, loss)

    def with_fidelity(outputs: dict[str, Array], batch: Batch, **asked: Any) -> dict[str, Array]:
        # A structural similarity takes as long as a small network: in evaluation alone.
        image = jax.nn.sigmoid(outputs["logits"])
        return {**error(outputs, batch, **asked), **reconstruction.fidelity(image, reconstruction.target(batch))}

    with_fidelity.__signature__ = inspect.signature(error)  # so that it is given what the loss asks for

    tx = make_optimizer(optimizer, updates, steps=images.steps)
    task = from_loss(network, with_fidelity, tx, train_loss=error, gradient=accumulated(updates.accumulate))
    look = _Look(network, dataset, clean, shown, seed)
    return Experiment(
        task=with_average(task, updates.ema) if updates.ema else task,
        steps=images.steps,
        train=shuffled,
        splits=splits,
        monitor=f"validation/{'ema_' if updates.ema else ''}{monitor}",
        mode="max" if monitor in ("psnr", "ssim") else "min",
        headline=(
            *("ema_squared_error", "squared_error", "clean_squared_error", "pca_squared_error"),
            *("probe_accuracy", "pca_probe_accuracy", "psnr", "ssim"),
        ),
        table=lambda: layer_table(network, dataset.image[:1].astype("float32")),
        rates={"learning_rate": rate_of(optimizer, steps=images.steps)},
        notes=images.notes,
        watch=lambda workdir: [every(max(1, images.steps // SHEETS), look.watch(workdir))],
        analyse=look.analyse,
    )


class _Look:
    """Looks at what an autoencoder makes of images, during a run and after it.

    Args:
      network: the autoencoder.
      dataset: whose images it is.
      clean: one pass over each split, as the images are.
      shown: the transform of evaluation, which may corrupt them.
      seed: of what that draws.
    """

    def __init__(
        self, network: nn.Module, dataset: Dataset, clean: Mapping[str, Batches], shown: Transform, seed: Seed
    ):
        self._network, self._dataset, self._clean, self._shown, self._seed = network, dataset, clean, shown, seed
        self._corrupts = shown is not transforms.unit_range
        self._labelled = dataset.one_label is not None
        self._reconstruct = jax.jit(lambda state, image: jax.nn.sigmoid(self._outputs(state, image)["logits"]))

    def watch(self, workdir: pathlib.Path) -> Hook:
        """Returns the hook that draws images of validation, or train where there is none, each time over the last."""
        split = "validation" if "validation" in self._dataset.splits else "train"
        batch = self._batch(split)

        def hook(moment: Moment) -> None:
            self._draw(workdir / f"reconstructions_{split}.png", moment.state, batch)

        return hook

    def analyse(self, run: FinishedRun) -> dict[str, dict[str, float]]:
        """Holds the codes of clean images against their principal components, and draws what was learned."""
        dataset, results, code = self._dataset, {}, {}
        for split, batches in self._clean.items():
            results[split] = run.evaluate(batches, self._encoded)
            code[split] = results[split].pop("code")
        places = {split: sample_of(dataset, ids) for split, ids in dataset.splits.items()}
        ids = {split: ids[places[split]] for split, ids in dataset.splits.items()}
        code = {split: rows[places[split]] for split, rows in code.items()}
        label = {split: dataset.one_label[own] for split, own in ids.items()} if self._labelled else {}
        stored = {split: {"image": dataset.image[own]} for split, own in ids.items()}
        image = {split: transforms.unit_range(batch)["image"] for split, batch in stored.items()}
        pca = probes.PrincipalComponents(image["train"], self._network.latent)
        pca_code = {split: pca.encode(pixels) for split, pixels in image.items()}
        accuracy, pca_accuracy = (probes.accuracies(rows, label) if label else {} for rows in (code, pca_code))
        for split, result in results.items():
            result["pca_squared_error"] = pca.squared_error(image[split])
            result.update(accuracy.get(split, {}))
            result.update({f"pca_{name}": value for name, value in pca_accuracy.get(split, {}).items()})
        last = list(dataset.splits)[-1]  # test, where there is one
        batch = self._batch(last)
        self._draw(run.workdir / f"reconstructions_{last}.png", run.state, batch, PCA=pca.reconstruct(batch["image"]))
        if label:
            maps = {"code": code[last], "principal components of the pixels": pca_code[last]}
            probes.draw_map(run.workdir / "codes.png", maps, label[last], dataset.classes)
        filters = self._network.apply(averaged(run.state).variables, method="filters")
        filter_grid(run.workdir / "filters.png", jax.device_get(filters))
        return results

    def _outputs(self, state: State, image: Array) -> dict[str, Array]:
        return self._network.apply(averaged(state).variables, image, train=False)

    def _encoded(self, state: State, batch: Batch, key: Key) -> Metrics:
        """The codes of a batch, and the error of clean images where evaluation is of others."""
        del key
        outputs = self._outputs(state, batch["image"])
        rows = metrics.Rows({"code": outputs["code"]}, batch["mask"])
        error = {"clean_squared_error": reconstruction.squared_error(outputs, batch)["squared_error"]}
        return {"": rows, **(metrics.means(error, batch["mask"]) if self._corrupts else {})}

    def _batch(self, split: str) -> Batch:
        """A few images of a split, of each class in turn, as an evaluation sees them; on the host."""
        ids = in_turn(self._dataset.splits[split], self._dataset.one_label)[:COLUMNS]
        rows = {"id": ids, "seed": np.full(len(ids), self._seed, np.uint32)}
        return jax.device_get(self._shown({"image": self._dataset.image[ids], **rows}))

    def _draw(self, path: pathlib.Path, state: State, batch: Batch, **more: np.ndarray) -> None:
        """Draws images, what the network is shown of them where that is not the same, what it makes of it, and more."""
        image = jax.device_put(batch["image"], state.step.sharding)  # where the state lies, whole
        rows = {"image": reconstruction.target(batch)}
        if self._corrupts:
            rows["input"] = batch["image"]
        rows["autoencoder"] = jax.device_get(self._reconstruct(state, image))
        own = self._dataset.one_label[batch["id"]] if self._labelled else ()
        titles = [self._dataset.classes[label] for label in own]
        contact_sheet(path, {**rows, **more}, titles)
