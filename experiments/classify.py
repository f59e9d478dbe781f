"""Recognition: one label for each image, or several."""

import inspect
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.experiment import Experiment, Train
from experiments.images import Fold, check_unit_range, in_unit_range, read_images
from experiments.settings.make import make
from experiments.settings.specs import AugmentSpecs, DataSpec, LossSpec, MixSpec, ModelSpec, OptimizerSpec
from experiments.updates import Updates, make_optimizer, rate_of
from jaxrec import metrics
from jaxrec.augment import views
from jaxrec.data import transforms
from jaxrec.errors import InputError
from jaxrec.output.layers import layer_table
from jaxrec.tasks.average import with_average
from jaxrec.tasks.gradients import accumulated
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.task import Task
from jaxrec.types import Array, Batch, Count, Loss, Rate, Seed, Weights

# What is shown of one label for each image, and of several.
ONE_LABEL = ("loss", "accuracy", "ema_accuracy", "f1_macro", "auc", "ece")
SEVERAL_LABELS = ("loss", "f1_macro", "ema_f1_macro", "mean_average_precision", "exact_match", "accuracy", "auc")


def build(
    *,
    train: Train,
    data: DataSpec,
    model: ModelSpec,
    loss: LossSpec,
    optimizer: OptimizerSpec,
    updates: Updates = Updates(),
    seed: Seed = 0,
    augment: AugmentSpecs = (),
    alternating_flip: bool = False,
    mix: MixSpec | None = None,
    class_weights: Literal["balanced"] | Weights | None = None,
    test_views: Literal["mirror", "mirror_and_shift"] | None = None,
    monitor: Literal["accuracy", "loss", "f1_macro", "auc", "exact_match", "mean_average_precision"] = "accuracy",
    standardise: bool = True,
    fold: Fold = Fold(),
    train_images: Count | None = None,
    overfit: Count | None = None,
) -> Experiment:
    """A classifier of images, standardised by the train split's own moments unless told otherwise.

    Labels [N, K] of 0 and 1 are several for each image: they take loss = {"name": "binary_cross_entropy"}, no
    class_weights, and have other metrics (`jaxrec.metrics.MultilabelPredictions`).

    Args:
      train: how long, in which batches, on which devices.
      data: the source of the images.
      model: the network; its `classes` is set to the data's.
      loss: what is minimised: one of the losses of one label for each image, or that of several.
      optimizer: of jaxrec or optax.
      updates: what is done to gradients before it and to its updates behind it; the moving average.
      seed: of the initial parameters, the order of the examples, augmentation, and dropout.
      augment: what training images go through, one after the other, each under a key of (seed, epoch, example).
      alternating_flip: swap left and right of an image in every second epoch; in place of random_flip in `augment`.
      mix: what pairs the images of a training batch after that.
      class_weights: of each class in the training loss, also in the train/loss that is shown; balanced is
        N / (K * examples of the class).
      test_views: what an evaluation averages the logits over, besides the image itself. Each view is a pass through
        the network; `train.evaluate_train = False` spares the train split of a finished run.
      monitor: the metric on validation that chooses the best checkpoint and, with train.patience, ends a run. The
        last two are of several labels for each image; the accuracy of these is that of all K decisions.
      standardise: whether images get zero mean and unit deviation. False leaves them in [0, 1], where the encoder of an
        autoencoder has learned them.
      fold: the run's part of a cross-validation, which `launch.py cross_validate` sets.
      train_images: train on this many images alone, equally many of each class, drawn by the seed; `epochs` are of
        these.
      overfit: train and evaluate on this many images of the train split alone, as they are and for as many steps as
        the whole split would take, to see whether a network can learn.
    """
    images = read_images(data, train, seed=seed, fold=fold, train_images=train_images, overfit=overfit)
    dataset, steps = images.dataset, images.steps
    if "label" not in dataset.arrays:
        raise InputError("A recogniser learns labels, and these data have none: add them, or train an autoencoder.")
    several = dataset.one_label is None
    if not several and monitor not in ONE_LABEL:
        raise InputError(f"config.monitor = {monitor!r} needs several labels for each image; these have one each.")
    functions, mixed = [make(AugmentSpecs, spec) for spec in augment], make(MixSpec, mix) if mix else None
    if alternating_flip and any(spec["name"] == "random_flip" for spec in augment):
        raise InputError("config.alternating_flip is undone by random_flip in config.augment: leave one of them out.")
    if overfit:
        functions, mixed, alternating_flip = [], None, False
    mean, std = transforms.moments(images.shown)
    if not standardise:
        check_unit_range(dataset, "standardise = False takes")
        mean, std = np.zeros_like(mean), np.ones_like(std)
    scale = transforms.standardise(mean, std)
    if functions or mixed:
        check_unit_range(dataset, "config.augment and config.mix take")
    randomise = transforms.augmented(functions, mixed) if functions or mixed else transforms.unit_range
    turned = [transforms.alternating_flip] if alternating_flip else []
    shuffled, splits = images.batches(transforms.chain(*turned, randomise, scale), scale)
    network, error = make(ModelSpec, model)(classes=len(dataset.classes)), make(LossSpec, loss)
    task = recogniser(
        network,
        error,
        make_optimizer(optimizer, updates, steps=steps),
        several=several,
        test_views=test_views,
        ema=updates.ema,
        train_loss=_weighted(error, class_weights, dataset.label[dataset.splits["train"]], len(dataset.classes)),
        gradient=accumulated(updates.accumulate),
    )
    return Experiment(
        task=task,
        steps=steps,
        train=shuffled,
        splits=splits,
        monitor=f"validation/{'ema_' if updates.ema else ''}{monitor}",
        mode="min" if monitor == "loss" else "max",
        headline=SEVERAL_LABELS if several else ONE_LABEL,
        table=lambda: layer_table(network, dataset.image[:1].astype("float32")),
        rates={"learning_rate": rate_of(optimizer, steps=steps)},
        notes={
            **images.notes,
            "shape": dataset.image.shape[1:],
            "mean": mean.tolist(),
            "std": std.tolist(),
            "several": several,
            "unit_range": in_unit_range(dataset),
            "crop": data.get("crop", 1.0) if data.get("size") else 1.0,  # of a picture that is resized
        },
    )


def recogniser(
    network: nn.Module,
    error: Loss,
    tx: optax.GradientTransformation,
    *,
    several: bool,
    test_views: Literal["mirror", "mirror_and_shift"] | None = None,
    ema: Rate = 0.0,
    **options: Any,
) -> Task:
    """The task of a recogniser, the same for training and for what asks a run afterwards.

    Args:
      network: called as `network(image, train=...)`, gives logits [B, K].
      error: of an evaluation.
      tx: the optimizer; of no matter where nothing is trained.
      several: whether an image has several labels.
      test_views: as in `build`.
      ema: what a moving average keeps of itself at a step; 0 for none.
      **options: more of `from_loss`.
    """
    task = from_loss(
        network,
        error,
        tx,
        statistics=metrics.multilabel_predictions if several else metrics.predictions,
        views=getattr(views, test_views) if test_views else None,
        **options,
    )
    return with_average(task, ema) if ema else task


def _weighted(loss: Loss, weights: str | Weights | None, label: np.ndarray, classes: int) -> Loss:
    """The loss with each example's value times the weight of its class; of a mixed example, of each of its two."""
    if weights is None:
        return loss
    if label.ndim > 1:
        raise InputError("config.class_weights is for one label for each image, these may have several: leave it out.")
    if weights == "balanced":
        counts = np.bincount(label, minlength=classes)
        weights = len(label) / (classes * np.maximum(counts, 1))
    elif len(weights) != classes:
        raise InputError(f"config.class_weights has {len(weights)} numbers for {classes} classes. Give one for each.")
    table = jnp.asarray(weights, jnp.float32)  # other training images are no other program

    def one_label(outputs: Array, batch: Batch, label: str, **asked: Any) -> Array:
        batch = {"label": batch[label], "mask": batch["mask"]}
        return loss(outputs, batch, **asked)["loss"] * table[batch["label"]]

    def weighted(outputs: Array, batch: Batch, **asked: Any) -> dict[str, Array]:
        value = one_label(outputs, batch, "label", **asked)
        if "other_label" in batch:
            value = batch["share"] * value + (1 - batch["share"]) * one_label(outputs, batch, "other_label", **asked)
        return {**loss(outputs, batch, **asked), "loss": value}

    weighted.__signature__ = inspect.signature(loss)  # so that it is given what the loss asks for
    return weighted
