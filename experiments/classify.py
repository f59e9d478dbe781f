"""Recognition: one label for each image."""

import math

from experiments.experiment import Data, Experiment, Loss, Model, Optimizer, Train
from experiments.make import make, make_optimizer
from jaxrec import augment, losses, models
from jaxrec.data import sources
from jaxrec.data.pipeline import eval_batches, train_batches
from jaxrec.summary import layer_table
from jaxrec.task import from_loss
from jaxrec.types import NonNegative, Positive, Seed


def build(
    *,
    train: Train,
    data: Data,
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    seed: Seed = 0,
    clip_norm: Positive | None = None,
    l2: NonNegative = 0.0,
) -> Experiment:
    """A classifier trained on images standardised by the train split's own moments.

    Args:
      train: how long, in which batches, on which devices.
      data: the source of the images.
      model: the network; its `classes` is set to the data's.
      loss: what is minimised.
      optimizer: of optax.
      seed: of the initial parameters, the order of the examples, and dropout.
      clip_norm: global norm that gradients are clipped to.
      l2: strength of the L2 penalty on kernels.
    """
    dataset = make(sources, data)()
    arrays = {"image": dataset.image, "label": dataset.label}
    mean, std = augment.moments(dataset.image[dataset.splits["train"]])
    options = {"batch_size": train.batch_size, "transform": augment.standardise(mean, std)}
    splits = {split: eval_batches(arrays, ids=ids, **options) for split, ids in dataset.splits.items()}
    shuffled = train_batches(arrays, ids=dataset.splits["train"], seed=seed, **options)
    steps = train.steps or math.ceil(train.epochs * shuffled.examples / train.batch_size)
    network = make(models, model)(classes=len(dataset.classes))
    task = from_loss(network, make(losses, loss), make_optimizer(optimizer, steps=steps, clip_norm=clip_norm, l2=l2))
    return Experiment(
        task=task,
        steps=steps,
        train=shuffled,
        splits=splits,
        monitor="validation/accuracy",
        mode="max",
        table=lambda: layer_table(network, dataset.image[:1].astype("float32")),
        notes={"classes": dataset.classes, "mean": mean.tolist(), "std": std.tolist()},
    )
