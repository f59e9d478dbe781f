"""A model at a glance: its layers with output shapes and parameter counts."""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn


def layer_table(model: nn.Module, *inputs: Any, call: Callable[..., Any] | None = None) -> str:
    """Returns one line for each layer of `model`, and the total. Nothing is computed, only shapes.

    Args:
      model: called as `model(*inputs, train=False)`.
      inputs: arrays, such as images [B, H, W, C], or their jax.ShapeDtypeStruct.
      call: how it is called instead, `call(model, *inputs)`.
    """
    outputs: dict[tuple[str, ...], tuple[int, ...]] = {}

    def record(call: Any, arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
        result = call(*arguments, **options)
        if context.method_name == "__call__" and hasattr(result, "shape"):
            outputs[context.module.path] = result.shape
        return result

    with nn.intercept_methods(record):
        called = call or (lambda model, *inputs: model(*inputs, train=False))
        variables = jax.eval_shape(lambda *inputs: model.init(jax.random.key(0), *inputs, method=called), *inputs)
    counts: dict[tuple[str, ...], int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        layer = tuple(key.key for key in path[:-1])
        counts[layer] = counts.get(layer, 0) + math.prod(leaf.shape)
    rows = [("layer", "output", "parameters")]
    for layer, shape in outputs.items():
        if layer in counts or len(layer) == 1:
            rows.append(("/".join(layer), " x ".join(map(str, shape[1:])), f"{counts.get(layer, 0):,}"))
    rows.append(("total", "", f"{sum(counts.values()):,}"))
    left, middle, right = (max(len(row[column]) for row in rows) for column in range(3))
    return "\n".join(f"{row[0]:<{left}}  {row[1]:<{middle}}  {row[2]:>{right}}" for row in rows)
