"""A recogniser built again from what its run has left: config and notes, by the functions that training uses."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.classify import recogniser
from experiments.settings.make import make
from experiments.settings.specs import LossSpec, ModelSpec
from jaxrec.data import transforms
from jaxrec.data.batches import Transform
from jaxrec.tasks.task import State, Task
from jaxrec.types import Array, Rate


def task_of(config: Mapping[str, Any], notes: Mapping[str, Any], *, ema: Rate = 0.0) -> Task:
    """The task of a run without its optimizer: what evaluates and predicts.

    Args:
      config: of the run.
      notes: what it has noted of its data.
      ema: of the moving average, if its state holds one.
    """
    return recogniser(
        make(ModelSpec, config["model"])(classes=len(notes["classes"])),
        make(LossSpec, config["loss"]),
        optax.identity(),
        several=several_labels(config, notes),
        test_views=config["test_views"],
        ema=ema,
    )


def logits_of(config: Mapping[str, Any], notes: Mapping[str, Any]) -> Callable[[State, Array], Array]:
    """(state, images [B, H, W, C] as they are stored) -> logits [B, K], of a run's task."""
    task, look = task_of(config, notes), evaluation_transform(notes)

    def logits(state: State, image: Array) -> Array:
        return task.predict_step(state, look({"image": image}), jax.random.key(0)).astype(jnp.float32)

    return logits


def evaluation_transform(notes: Mapping[str, Any]) -> Transform:
    """What a run's evaluation does to the images of a batch, from what it has noted of its data."""
    return transforms.standardise(*(np.float32(notes[name]) for name in ("mean", "std")))


def several_labels(config: Mapping[str, Any], notes: Mapping[str, Any]) -> bool:
    """Whether a run's images may have several labels; a run of an older version has not noted it."""
    return notes.get("several", config["loss"]["name"] == "binary_cross_entropy")
