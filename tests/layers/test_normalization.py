"""Batch normalization against flax.linen: values, running statistics, gradients and gradients of gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from test_layers import assert_close, first_order, images, name_of, second_order

from jaxrec import layers

__all__ = ["images"]  # a fixture

NORMS = [
    ((8, 17, 18, 5), {}),
    ((8, 17, 18, 5), {"use_scale": False, "momentum": 0.5}),
    ((8, 17, 18, 5), {"use_bias": False, "epsilon": 1e-2}),
    ((40, 6), {}),
    # flax's own
    ((8, 17, 18, 5), {"use_running_average": True}),
    ((8, 17, 18, 5), {"use_fast_variance": False}),
    ((8, 17, 18, 5), {"axis": 1}),
]


def both_norms(images: np.ndarray, shape: tuple[int, ...], options: dict):
    """([f(x, params) -> (y, running statistics) of jaxrec's module, of flax's], params, image)."""
    x = jnp.asarray(np.resize(images, shape) + np.random.default_rng(0).normal(size=shape), jnp.float32)
    modules = [library.BatchNorm(**{"use_running_average": False, **options}) for library in (layers, nn)]
    variables = [module.init(jax.random.key(0), x) for module in modules]
    assert_close(*variables, rtol=0)
    params = jax.tree.map(lambda leaf: leaf + jnp.cos(jnp.arange(leaf.size)), variables[0].get("params", {}))
    stats = variables[0]["batch_stats"]

    def apply(module, x, params):
        return module.apply({"params": params, "batch_stats": stats}, x, mutable="batch_stats")

    return [functools.partial(apply, module) for module in modules], params, x


@pytest.mark.parametrize(("shape", "options"), NORMS, ids=name_of)
def test_batch_norm_equals_flax(images, shape, options):
    norms, params, x = both_norms(images, shape, options)
    assert_close(*(jax.jit(norm)(x, params)[1] for norm in norms))
    assert_close(*(first_order(lambda *arguments, norm=norm: norm(*arguments)[0], x, params) for norm in norms))


def test_second_derivatives_of_batch_norm_equal_flax(images):
    norms, params, x = both_norms(images, (2, 5, 6, 3), {})
    assert_close(*(second_order(lambda *arguments, norm=norm: norm(*arguments)[0], x, params) for norm in norms))


def test_batch_norm_masks_and_keeps_half_precision_as_flax_does(images):
    mask = np.arange(8).reshape(8, 1, 1, 1) < 5
    for options, arguments in [({}, {"mask": mask}), ({"dtype": jnp.bfloat16}, {})]:
        modules = [library.BatchNorm(use_running_average=False, **options) for library in (layers, nn)]
        ours, flax = (module.init_with_output(jax.random.key(0), images, **arguments)[0] for module in modules)
        assert_close(ours, flax, rtol=1e-5 if arguments else 1e-2)
    assert ours.dtype == jnp.bfloat16
