"""Feature maps of any function of images, found in what it computes, and Grad-CAM, which weighs them.

A function is traced, and its operations are carried out one by one. A feature map is what an operation makes of the
image, or of a feature map, that is still a batch of places with features, [B, h, w, D]: convolutions, activations,
pools, norms and sums give one; what folds places into vectors does not.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Literal

from jaxrec.errors import InputError, did_you_mean
from jaxrec.explain.gradients import Apply, logits_of
from jaxrec.explain.traced import alone
from jaxrec.types import Array

MOVES = {"reshape", "transpose"}  # behind these the second and third axis are no places any more, whatever their sizes

OnMap = Callable[[Array, str | None], Array]  # a feature map and its name, if it has one -> what takes its place


def grad_cam(apply: Apply, image: Array, target: Array, *, layer: str | None = None) -> Array:
    """Where the last feature map holds what speaks for the target, [B, H, W], 0 or more (Selvaraju et al., 2017).

    The map's channels are weighed by the mean gradient of the target logit, and added up; what is below 0 is cut off.
    With a global mean and one dense layer behind the map this is CAM (Zhou et al., 2016) over the number of places.

    Args:
      apply: images [B, H, W, C] -> logits [B, K].
      image: [B, H, W, C].
      target: the class that is explained, [B].
      layer: the name of another feature map, as `jax.ad_checkpoint.checkpoint_name` or `with_layer_names` gave it.

    Raises:
      InputError: there is no feature map, or none of this name.
    """
    found = feature_maps(apply, image)
    place = _place(found, layer)

    def score(added: Array) -> tuple[Array, Array]:
        count, caught = 0, added

        def tap(value: Array, name: str | None) -> Array:
            nonlocal count, caught
            count += 1
            if count - 1 != place:
                return value
            caught = value + added
            return caught

        logits = _carried_out(apply, image, tap)
        return logits_of(logits, target).sum(), caught

    _, shape = found[place]
    gradient, maps = jax.grad(score, has_aux=True)(jnp.zeros(shape.shape, shape.dtype))
    weights = gradient.mean((1, 2), keepdims=True)  # [B, 1, 1, D]
    cam = jax.nn.relu((weights * maps).sum(-1))
    return jax.image.resize(cam, image.shape[:3], "linear")


def feature_maps(apply: Apply, image: Array) -> list[tuple[str | None, jax.ShapeDtypeStruct]]:
    """The names, where there are any, and shapes [B, h, w, D] of all feature maps, in order. Nothing is computed."""
    found: list[tuple[str | None, jax.ShapeDtypeStruct]] = []

    def note(value: Array, name: str | None) -> Array:
        found.append((name, jax.ShapeDtypeStruct(value.shape, value.dtype)))
        return value

    jax.eval_shape(lambda image: _carried_out(apply, image, note), image)
    return found


def with_layer_names(apply: Apply) -> Apply:
    """The same function of a linen network, whose layers' outputs have their paths as names: "block_0/Conv_1"."""

    def name(call: Callable, arguments: tuple, options: dict, context: nn.module.InterceptorContext) -> Any:
        result = call(*arguments, **options)
        if context.method_name != "__call__" or not isinstance(result, jax.Array):
            return result
        return checkpoint_name(result, "/".join(context.module.path))

    def named(image: Array) -> Array:
        with nn.intercept_methods(name):
            return apply(image)

    return named


def _place(found: Sequence[tuple[str | None, Any]], layer: str | None) -> int:
    """Which of the feature maps is meant."""
    if not found:
        raise InputError("Grad-CAM: this network has no feature map; another method needs none, such as occlusion.")
    names = [name for name, _ in found]
    if layer is None:
        return len(names) - 1
    if layer not in names:
        allowed = list(dict.fromkeys(filter(None, names)))
        raise InputError(
            f"layer = {layer!r} gives no feature map.{did_you_mean(layer, allowed)} These do: {', '.join(allowed)}."
        )
    return len(names) - 1 - names[::-1].index(layer)


def _carried_out(apply: Apply, image: Array, on_map: OnMap) -> Array:
    """`apply(image)`, in which `on_map` replaces each feature map."""
    closed = jax.make_jaxpr(apply)(image)
    (logits,), _ = _walk(closed, [image], [True], on_map)
    return logits


def _walk(
    closed: ClosedJaxpr, arguments: Sequence[Array], are_maps: Sequence[bool], on_map: OnMap
) -> tuple[list[Array], list[bool]]:
    """The results of a traced function, and which of them are feature maps."""
    values = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    values |= zip(closed.jaxpr.invars, arguments, strict=True)
    maps = {var for var, is_map in zip(closed.jaxpr.invars, are_maps, strict=True) if is_map}

    def of(atoms: Sequence[Any]) -> tuple[list[Array], list[bool]]:
        known = [(atom.val, False) if isinstance(atom, Literal) else (values[atom], atom in maps) for atom in atoms]
        return [value for value, _ in known], [is_map for _, is_map in known]

    for equation in closed.jaxpr.eqns:
        operands, from_maps = of(equation.invars)
        if equation.primitive.name == "jit":
            results, kept = _walk(equation.params["jaxpr"], operands, from_maps, on_map)
        else:
            results = alone(closed.jaxpr, equation)(*operands)
            follows = any(from_maps) and equation.primitive.name not in MOVES
            kept = [follows and _has_places(result) for result in results]
            name = equation.params["name"] if equation.primitive.name == "name" else None
            results = [on_map(result, name) if is_map else result for result, is_map in zip(results, kept, strict=True)]
        values |= zip(equation.outvars, results, strict=True)
        maps |= {var for var, is_map in zip(equation.outvars, kept, strict=True) if is_map}
    return of(closed.jaxpr.outvars)


def _has_places(value: Array) -> bool:
    return value.ndim == 4 and value.shape[1] * value.shape[2] > 1 and jnp.issubdtype(value.dtype, jnp.floating)
