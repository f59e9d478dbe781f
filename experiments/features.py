"""Features by which images are compared: a recogniser's, of a run here, or the pixels where there is none."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.settings.make import make
from experiments.settings.specs import ModelSpec
from experiments.stored import recogniser_of, result_of, weights_of
from jaxrec.data import transforms
from jaxrec.errors import InputError
from jaxrec.types import Array, PyTree

BATCH = 256  # images at once, where no experiment says how many


@jax.jit
def _rows(rows: jax.tree_util.Partial, image: Array) -> dict[str, Array]:
    return rows(image)


class Features(NamedTuple):
    """A feature extractor, and notes on where it comes from.

    `rows` is pure: images [B, H, W, C] in [0, 1] -> {"features": [B, D], "logits": [B, K]}, or {"pixels": [B, D]}. It
    rounds images to the 256 values that a file stores, so that what is measured in training is what a file would give;
    on stored images that changes nothing.
    """

    rows: jax.tree_util.Partial
    notes: Mapping[str, Any]

    def of(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The rows of images [N, H, W, C], uint8 or in [0, 1], on the host."""
        padded = np.pad(images, ((0, -len(images) % BATCH), (0, 0), (0, 0), (0, 0)))
        parts = [
            jax.device_get(_rows(self.rows, transforms.unit_range({"image": jnp.asarray(part)})["image"]))
            for part in np.split(padded, len(padded) // BATCH)
        ]
        return {name: np.concatenate([part[name] for part in parts])[: len(images)] for name in parts[0]}


def features_of(folder: str | None, shape: tuple[int, ...]) -> Features:
    """The features of images of a shape (H, W, C): a recogniser's logits and the layer before, or pixels for None.

    "features" is the input of the network's last dense layer (the penultimate layer's output), caught where the layer
    is called: in the state that the run chose, its moving average where it has one, images standardised as there.

    Raises:
      InputError: the folder holds no finished recogniser, or one of images of another shape.
    """
    if folder is None:
        notes = {"layer": f"pixels in [0, 1], D = {np.prod(shape)}", "rounding": "uint8"}
        return Features(jax.tree_util.Partial(lambda image: {"pixels": _rounded(image).reshape(len(image), -1)}), notes)
    what = "features"
    variables, step, average = weights_of(pathlib.Path(folder), what)
    config = recogniser_of(pathlib.Path(folder), what)
    result = result_of(pathlib.Path(folder))
    if result is None:
        raise InputError(f"{what} = '{folder}': that run is not finished. Let the same command finish it first.")
    notes = result["notes"]
    if tuple(notes.get("shape", ())) != tuple(shape):
        theirs = "x".join(map(str, notes.get("shape", ()))) or "an unknown shape (an older version's run)"
        raise InputError(
            f"{what} = '{folder}': trained on images of {theirs}, these are {'x'.join(map(str, shape))}. Name a "
            "recogniser of such images."
        )
    network = make(ModelSpec, config["model"])(classes=len(notes["classes"]))
    standardise = transforms.standardise(*(np.float32(notes[name]) for name in ("mean", "std")))

    def of_network(variables: PyTree, image: Array) -> dict[str, Array]:
        return last_layers(network, variables, standardise({"image": _rounded(image)})["image"])

    # Its arrays are arguments of whatever is compiled around it, on any devices.
    rows = jax.tree_util.Partial(of_network, {"params": variables["params"], **variables["extra"]})
    widths = jax.eval_shape(rows, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    test = result["metrics"].get("test", {})
    return Features(
        rows,
        {
            "run": folder,
            "step": step,
            "average": average,
            "test_accuracy": test.get("ema_accuracy" if average else "accuracy"),
            "data": config["data"],
            "classes": notes["classes"],
            "layer": f"input of the last dense layer, D = {widths['features'].shape[1]}; logits, "
            f"K = {widths['logits'].shape[1]}",
            "rounding": "uint8",
        },
    )


def last_layers(network: nn.Module, variables: PyTree, image: Array) -> dict[str, Array]:
    """A recogniser's logits [B, K] of images [B, H, W, C], and "features" [B, D], what its last dense layer is given.

    It is caught where the layer is called, so that no network has to hand it out.
    """
    caught: list[Array] = []

    def catch(call: Callable, arguments: tuple, options: dict, context: Any) -> Any:
        if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
            caught.append(arguments[0])
        return call(*arguments, **options)

    with nn.intercept_methods(catch):
        logits = network.apply(variables, image, train=False)
    return {"features": caught[-1].astype(jnp.float32), "logits": logits.astype(jnp.float32)}


def _rounded(image: Array) -> Array:
    """Images in [0, 1] as they are once saved as bytes."""
    return jnp.round(jnp.clip(image, 0, 1) * 255) / 255
