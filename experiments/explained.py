"""A run's network as it is explained: what it answers, what it compares images by, and the maps that it can have."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.features import last_layers
from experiments.restored import evaluation_transform, several_labels
from experiments.settings.make import make
from experiments.settings.specs import AutoencoderSpec, LikelihoodSpec, ModelSpec, VariationalModelSpec
from jaxrec import explain
from jaxrec.errors import InputError
from jaxrec.models import RNN
from jaxrec.types import Array, PyTree

# (images [B, H, W, C], a class of each [B]) -> [B, H, W]: of a recogniser the class that is explained, else its own.
Map = Callable[[Array, Array], Array]


class Subject(NamedTuple):
    """A network that is explained. Images are floats [B, H, W, C] as the run's data hold them, in [0, 1] mostly."""

    step: int
    # (images, classes [B]) -> "features" [B, D], and "logits" [B, K] or "reconstruction" [B, H, W, C]
    answers: Callable[[Array, Array], dict[str, Array]]
    maps: Mapping[str, Map]  # by name, those that this network can have
    probabilities: Callable[[Array], Array] = jax.nn.softmax  # of logits
    baseline: Array | None = None  # [1, 1, 1, C], an image that says nothing; None where nothing is recognised


def subject_of(
    config: Mapping[str, Any],
    notes: Mapping[str, Any],
    weights: PyTree,
    step: int,
    *,
    layer: str | None = None,
    seed: int = 0,
) -> Subject:
    """The network of a run.

    Args:
      config: the run's.
      notes: what it has noted of its data, and "shape", (H, W, C) of its images.
      weights: what it has learned, as `experiments.stored.weights_of` reads it.
      step: at which that was saved.
      layer: whose feature map Grad-CAM weighs; the last one by default.
      seed: of the noise of SmoothGrad.

    Raises:
      InputError: it neither recognises nor reconstructs images, or no layer of this name has a feature map.
    """
    kinds = {"classify": _recogniser, "autoencode": _autoencoder, "vae": _variational}
    if config["experiment"] not in kinds:
        allowed = ", ".join(kinds)
        raise InputError(f"A run of '{config['experiment']}' is not explained; those of {allowed} are. Name one.")
    variables = {"params": weights["params"], **weights["extra"]}
    if config["experiment"] == "classify":
        return _recogniser(config, notes, variables, step, layer, seed)
    if layer:
        raise InputError(f"--layer={layer}: feature maps are weighed for a recogniser's answer. Leave it out.")
    return kinds[config["experiment"]](config, notes, variables, step)


def _recogniser(
    config: Mapping[str, Any], notes: Mapping[str, Any], variables: PyTree, step: int, layer: str | None, seed: int
) -> Subject:
    network, look = make(ModelSpec, config["model"])(classes=len(notes["classes"])), evaluation_transform(notes)
    shape, baseline = tuple(notes["shape"]), jnp.asarray(notes["mean"], jnp.float32).reshape(1, 1, 1, -1)
    key, side = jax.random.key(seed), min(shape[:2])

    def seen(image: Array) -> Array:
        return look({"image": image})["image"]

    def apply(image: Array) -> Array:
        return network.apply(variables, seen(image), train=False).astype(jnp.float32)

    def answers(image: Array, label: Array) -> dict[str, Array]:
        del label
        return last_layers(network, variables, seen(image))

    named = explain.with_layer_names(apply)
    found = {
        "gradient": lambda image, label: explain.heat(explain.saliency(apply, image, label)),
        "smoothgrad": lambda image, label: explain.heat(explain.smoothgrad(apply, image, label, key)),
        "integrated_gradients": lambda image, label: explain.heat(
            explain.integrated_gradients(apply, image, label, baseline)
        ),
        "occlusion": functools.partial(_occluded, apply, baseline, max(2, side // 7)),
    }
    # What scales the image gives places with features as well: it takes a layer to make a map of them.
    if any(name for name, _ in explain.feature_maps(named, jax.ShapeDtypeStruct((1, *shape), jnp.float32))) or layer:
        found["grad_cam"] = lambda image, label: explain.grad_cam(named, image, label, layer=layer)
    if _attends(network, variables, shape):
        found["rollout"] = lambda image, label: explain.rollout(
            explain.attention_of(network, variables, seen(image)), shape[:2]
        )
    probabilities = jax.nn.sigmoid if several_labels(config, notes) else jax.nn.softmax
    if isinstance(network, RNN):
        found["row_by_row"] = functools.partial(_read, apply, probabilities)
    return Subject(step, answers, found, probabilities, baseline)


def _occluded(apply: explain.Apply, baseline: Array, size: int, image: Array, label: Array) -> Array:
    return jax.nn.relu(explain.occlusion(apply, image, label, baseline, size=size))


def _read(apply: explain.Apply, probabilities: Callable[[Array], Array], image: Array, label: Array) -> Array:
    """The probability of the class after each row, along the row."""
    after = jnp.take_along_axis(probabilities(explain.row_by_row(apply, image)), label[:, None, None], axis=-1)
    return jnp.broadcast_to(after, image.shape[:3])


def _attends(network: nn.Module, variables: PyTree, shape: tuple[int, int, int]) -> bool:
    try:
        jax.eval_shape(lambda image: explain.attention_of(network, variables, image), np.zeros((1, *shape), np.float32))
    except InputError:
        return False
    return True


def _autoencoder(config: Mapping[str, Any], notes: Mapping[str, Any], variables: PyTree, step: int) -> Subject:
    network = make(AutoencoderSpec, config["model"])(shape=tuple(notes["shape"]))

    def answers(image: Array, label: Array) -> dict[str, Array]:
        del label
        outputs = network.apply(variables, image, train=False)
        return {"features": outputs["code"], "reconstruction": jax.nn.sigmoid(outputs["logits"])}

    return _reconstructing(step, answers)


def _variational(config: Mapping[str, Any], notes: Mapping[str, Any], variables: PyTree, step: int) -> Subject:
    likelihood = make(LikelihoodSpec, config["likelihood"])()
    network = make(VariationalModelSpec, config["model"])(
        shape=tuple(notes["shape"]),
        classes=len(notes["classes"]) if config["conditional"] else None,
        scaled=likelihood.scaled,
    )

    def answers(image: Array, label: Array) -> dict[str, Array]:
        outputs = network.apply(variables, image, None, label if config["conditional"] else None, train=False)
        return {"features": outputs["mean"], "reconstruction": likelihood.mean(outputs["logits"][:, 0])}

    return _reconstructing(step, answers)


def _reconstructing(step: int, answers: Callable[[Array, Array], dict[str, Array]]) -> Subject:
    def errors(image: Array, label: Array) -> Array:
        return explain.squared_errors(lambda image: answers(image, label)["reconstruction"], image)

    return Subject(step, answers, {"squared_error": errors})
