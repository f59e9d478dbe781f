"""Batch normalization. XLA on a CPU passes over the images more often than it must."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import canonicalize_dtype

from jaxrec.layers.platform import on_cpu
from jaxrec.sharding import mean_over_devices
from jaxrec.types import Array


class BatchNorm(nn.BatchNorm):
    """`flax.linen.BatchNorm`: same attributes, variables and results; a training step is faster on a CPU.

    In a pmapped step the statistics are those of the global batch. Running, masked and slow statistics, those along a
    named or any but the last axis, and of complex numbers, are flax's.
    """

    @nn.compact
    def __call__(self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None) -> Array:
        """Normalizes [..., C]; raises what flax raises."""
        running = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        usual = self.axis == -1 and self.use_fast_variance and self.force_float32_reductions
        usual = usual and mask is None and self.axis_name is None and not jnp.iscomplexobj(x)
        if running or not usual:
            return super().__call__(x, use_running_average, mask=mask)
        c, axes = x.shape[-1:], tuple(range(x.ndim - 1))
        mean_so_far = self.variable("batch_stats", "mean", jnp.zeros, c, jnp.float32)
        var_so_far = self.variable("batch_stats", "var", jnp.ones, c, jnp.float32)
        scale = self.param("scale", self.scale_init, c, self.param_dtype) if self.use_scale else None
        bias = self.param("bias", self.bias_init, c, self.param_dtype) if self.use_bias else None
        dtype = canonicalize_dtype(x, scale, bias, dtype=self.dtype)
        x = jnp.asarray(x, jnp.promote_types(self.dtype or jnp.result_type(x), jnp.float32))
        mean, squares = mean_over_devices((x.mean(axes), jnp.square(x).mean(axes)))
        var = jnp.maximum(0, squares - jnp.square(mean))
        if not self.is_initializing():
            mean_so_far.value = self.momentum * mean_so_far.value + (1 - self.momentum) * mean
            var_so_far.value = self.momentum * var_so_far.value + (1 - self.momentum) * var
        factor = jax.lax.rsqrt(var + self.epsilon) * (1 if scale is None else scale)
        offset = jnp.zeros_like(factor) if bias is None else bias
        channels = (jnp.expand_dims(value, axes) for value in (mean, factor, offset))  # [1, ..., 1, C]
        return on_cpu(_affine, _centred, x, *channels).astype(dtype)


def _centred(x: Array, mean: Array, factor: Array, offset: Array) -> Array:
    """As flax computes it."""
    return (x - mean) * factor + offset


def _affine(x: Array, mean: Array, factor: Array, offset: Array) -> Array:
    """The same after all that concerns whole channels, so that the gradient passes over the images less often.

    It loses digits where a mean is far larger than its deviation, but the fast variance has lost twice as many there.
    """
    return x * factor + (offset - mean * factor)
