"""Recognition: one label for each image."""

from typing import Literal

import jax.numpy as jnp
import numpy as np

from experiments.experiment import Augment, Data, Experiment, Loss, Mix, Model, Optimizer, Train
from experiments.images import check_unit_range, read_images
from experiments.settings.make import make, make_optimizer
from jaxrec import augment as augmentations
from jaxrec import losses, metrics, models
from jaxrec.augment import mix as mixes
from jaxrec.augment import views
from jaxrec.data import transforms
from jaxrec.errors import InputError
from jaxrec.output.layers import layer_table
from jaxrec.tasks.average import with_average
from jaxrec.tasks.task import from_loss
from jaxrec.types import Array, Batch, Count, Factors, NonNegative, Pattern, Positive, Rate, Seed, Share, Weights


def build(
    *,
    train: Train,
    data: Data,
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    seed: Seed = 0,
    augment: Augment = (),
    alternating_flip: bool = False,
    mix: Mix | None = None,
    clip_norm: Positive | None = None,
    l1: NonNegative = 0.0,
    l2: NonNegative = 0.0,
    rates: Factors = (),
    layer_decay: Share | None = None,
    freeze: Pattern | None = None,
    class_weights: Literal["balanced"] | Weights | None = None,
    accumulate: Count = 1,
    ema: Rate = 0.0,
    test_views: Literal["mirror", "mirror_and_shift"] | None = None,
    monitor: Literal["accuracy", "loss", "f1_macro", "auc"] = "accuracy",
    standardise: bool = True,
    labels: Count | None = None,
    overfit: Count | None = None,
) -> Experiment:
    """A classifier of images, standardised by the train split's own moments unless told otherwise.

    Args:
      train: how long, in which batches, on which devices.
      data: the source of the images.
      model: the network; its `classes` is set to the data's.
      loss: what is minimised.
      optimizer: of jaxrec or optax.
      seed: of the initial parameters, the order of the examples, augmentation, and dropout.
      augment: what training images go through, one after the other, each under a key of (seed, epoch, example).
      alternating_flip: swap left and right of an image in every second epoch; in place of random_flip in `augment`.
      mix: what pairs the images of a training batch after that.
      clip_norm: global norm that gradients are clipped to.
      l1: strength of the L1 penalty on kernels.
      l2: strength of the L2 penalty on kernels.
      rates: pairs of a pattern over parameter paths and the factor their learning rate is multiplied by.
      layer_decay: each block of the network learns by this factor slower than the next (transformers).
      freeze: the paths of parameters that stay as they are, such as "^Conv_0/".
      class_weights: of each class in the training loss, also in the train/loss that is shown; balanced is
        N / (K * examples of the class).
      accumulate: the parts in which a step takes its batch, one after the other, to save memory.
      ema: how much of itself a moving average of the parameters keeps at a step, such as 0.999; 0 for none. It is
        evaluated beside them and chooses the best checkpoint.
      test_views: what an evaluation averages the logits over, besides the image itself.
      monitor: the metric on validation that chooses the best checkpoint and, with train.patience, ends a run.
      standardise: whether images get zero mean and unit deviation. False leaves them in [0, 1], where the encoder of an
        autoencoder has learned them.
      labels: train on this many images alone, equally many of each class, drawn by the seed; `epochs` are of these.
      overfit: train and evaluate on this many images of the train split alone, as they are and for as many steps as
        the whole split would take, to see whether a network can learn.
    """
    images = read_images(data, train, seed=seed, labels=labels, overfit=overfit)
    dataset, steps = images.dataset, images.steps
    functions, mixed = [make(augmentations, spec) for spec in augment], make(mixes, mix) if mix else None
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
    randomise = transforms.augmented(functions, mixed, seed=seed) if functions or mixed else transforms.unit_range
    turned = [transforms.alternating_flip(seed=seed)] if alternating_flip else []
    shuffled, splits = images.batches(transforms.chain(*turned, randomise, scale), scale)
    network, error = make(models, model)(classes=len(dataset.classes)), make(losses, loss)
    tx = make_optimizer(
        optimizer,
        steps=steps,
        clip_norm=clip_norm,
        l1=l1,
        l2=l2,
        rates=rates,
        layer_decay=layer_decay,
        freeze=freeze,
    )
    task = from_loss(
        network,
        error,
        tx,
        train_loss=_weighted(error, class_weights, dataset.label[dataset.splits["train"]], len(dataset.classes)),
        statistics=metrics.predictions,
        views=getattr(views, test_views) if test_views else None,
        accumulate=accumulate,
    )
    return Experiment(
        task=with_average(task, ema) if ema else task,
        steps=steps,
        train=shuffled,
        splits=splits,
        monitor=f"validation/{'ema_' if ema else ''}{monitor}",
        mode="min" if monitor == "loss" else "max",
        headline=("loss", "accuracy", "ema_accuracy", "f1_macro", "auc", "ece"),
        table=lambda: layer_table(network, dataset.image[:1].astype("float32")),
        notes={
            "classes": dataset.classes,
            "shape": dataset.image.shape[1:],
            "mean": mean.tolist(),
            "std": std.tolist(),
        },
    )


def _weighted(loss: Loss, weights: str | Weights | None, label: np.ndarray, classes: int) -> Loss:
    """The loss with each example's value times the weight of its class; of a mixed example, of each of its two."""
    if weights is None:
        return loss
    if weights == "balanced":
        counts = np.bincount(label, minlength=classes)
        weights = len(label) / (classes * np.maximum(counts, 1))
    elif len(weights) != classes:
        raise InputError(f"config.class_weights has {len(weights)} numbers for {classes} classes. Give one for each.")
    table = np.asarray(weights, np.float32)

    def one_label(outputs: Array, batch: Batch, label: str) -> Array:
        batch = {"label": batch[label], "mask": batch["mask"]}
        return loss(outputs, batch)["loss"] * jnp.asarray(table)[batch["label"]]

    def weighted(outputs: Array, batch: Batch) -> dict[str, Array]:
        value = one_label(outputs, batch, "label")
        if "other_label" in batch:
            value = batch["share"] * value + (1 - batch["share"]) * one_label(outputs, batch, "other_label")
        return {**loss(outputs, batch), "loss": value}

    return weighted
