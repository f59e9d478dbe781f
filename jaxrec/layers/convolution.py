"""Convolution. Its gradients are what XLA compiles badly on a CPU."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.linear import canonicalize_padding

from jaxrec.layers.platform import on_cpu
from jaxrec.types import Array

Pads = tuple[tuple[int, int], tuple[int, int]]  # zeros added: ((top, bottom), (left, right)); below 0 crops
NHWC = ("NHWC", "HWIO", "NHWC")


class Conv(nn.Conv):
    """`flax.linen.Conv`: same attributes, parameters and results; images [..., H, W, C] are faster on a CPU.

    Dilated, grouped, masked and one- or three-dimensional convolutions, and padding other than by zeros, are flax's.

    Attributes:
      max_pool: beyond flax's attributes, a max pooling to apply to the result. Adding the bias after it is the same
        function, on fewer pixels.
    """

    max_pool: Callable[[Array], Array] | None = None

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps [..., H, W, C] to [..., H', W', features]; raises what flax raises."""
        plane = len(as_tuple(self.kernel_size, 1)) == 2 and inputs.ndim >= 3 and self.feature_group_count == 1
        dilation = {*as_tuple(self.input_dilation, 2), *as_tuple(self.kernel_dilation, 2)}
        given = (self.mask, self.conv_general_dilated, self.conv_general_dilated_cls)
        if not plane or dilation != {1} or any(value is not None for value in given) or not pads_zeros(self.padding):
            y = super().__call__(inputs)
            return y if self.max_pool is None else self.max_pool(y)
        shape = (*self.kernel_size, inputs.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, shape[-1:], self.param_dtype) if self.use_bias else None
        inputs, kernel, bias = self.promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        x = inputs.reshape(math.prod(inputs.shape[:-3]), *inputs.shape[-3:])  # [B, H, W, C]
        strides = as_tuple(self.strides, 2)
        pads = canonicalize_padding(self.padding, 2)
        if isinstance(pads, str):
            pads = jax.lax.padtype_to_pads(x.shape[1:3], shape[:2], strides, pads)
        y = convolve(x, kernel, strides, tuple(map(tuple, pads)), self.precision)  # [B, H', W', features]
        y = y if self.max_pool is None else self.max_pool(y)
        y = y if bias is None else y + bias.reshape(1, 1, 1, -1)
        return y.reshape(*inputs.shape[:-3], *y.shape[1:])


def as_tuple(value: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Reads flax's notation: one number stands for every dimension, None for 1."""
    value = 1 if value is None else value
    return (value,) * rank if isinstance(value, int) else tuple(value)


def pads_zeros(padding: object) -> bool:
    """Whether flax's `padding` argument means zeros around the image."""
    return not isinstance(padding, str) or padding in ("SAME", "VALID")


def convolve(x: Array, kernel: Array, strides: tuple[int, int], pads: Pads, precision: object = None) -> Array:
    """Convolves images [B, H, W, C] with a kernel [kh, kw, C, D] into [B, H', W', D]."""
    own = functools.partial(_own, strides=strides, pads=pads, precision=precision)
    height, width = _output_size(x, kernel, strides, pads)
    if not jnp.issubdtype(x.dtype, jnp.floating) or min(height, width) < 1:
        return own(x, kernel)
    # Measured on two CPUs and two versions of JAX, XLA's own convolution is slower than one matrix product over the
    # gathered neighbourhoods where the channels do not fill a vector register (color images), where only a few pixels
    # are left, or where there is nothing to gather. Elsewhere the gathering costs more than it gains.
    few = x.shape[-1] <= 4 or height * width <= 36 or kernel.shape[:2] == (1, 1)
    fast = _product if few else _canonical
    return on_cpu(lambda x, kernel: fast(x, kernel, strides, pads, precision), own, x, kernel)


def _own(x: Array, kernel: Array, strides: tuple[int, int], pads: Pads, precision: object) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=NHWC, precision=precision)


def _output_size(x: Array, kernel: Array, strides: tuple[int, int], pads: Pads) -> tuple[int, int]:
    """Height and width of the convolution's result."""
    sizes = zip(x.shape[1:3], kernel.shape[:2], strides, pads, strict=True)
    return tuple((size + low + high - k) // stride + 1 for size, k, stride, (low, high) in sizes)


def _product(x: Array, kernel: Array, strides: tuple[int, int], pads: Pads, precision: object) -> Array:
    """Gathers the neighbourhood of each output pixel and multiplies once; its gradients are products as well."""
    (kh, kw, c, d), (sh, sw), (h, w) = kernel.shape, strides, _output_size(x, kernel, strides, pads)
    x = _pad(x, pads)
    taps = [
        x[:, i : i + sh * (h - 1) + 1 : sh, j : j + sw * (w - 1) + 1 : sw] for i in range(kh) for j in range(kw)
    ]  # kh * kw of [B, H', W', C]
    rows = jnp.concatenate(taps, axis=-1).reshape(-1, kh * kw * c)
    return jnp.matmul(rows, kernel.reshape(-1, d), precision=precision).reshape(x.shape[0], h, w, d)


def _pad(x: Array, pads: Pads) -> Array:
    """Adds zeros around [B, H, W, C]."""
    (top, bottom), (left, right) = pads
    return jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _canonical(x: Array, kernel: Array, strides: tuple[int, int], pads: Pads, precision: object) -> Array:
    """XLA's own convolution, with gradients that stay fast inside a loop.

    XLA transposes a convolution by relabelling its dimensions. At the top of a program it then moves the data to the
    labels that its CPU kernels know; in the body of a scan it does not, and runs a plain loop nest, 40 times slower.
    Here the tangents carry the odd labels, so that the gradients, which are their transposes, have the known ones.
    """
    return _own(x, kernel, strides, pads, precision)


def _canonical_tangent(strides, pads, precision, primals, tangents):
    """Sums the derivatives along the image and along the kernel."""
    (x, kernel), (dx, dkernel) = primals, tangents
    conv = functools.partial(jax.lax.conv_general_dilated, window_strides=strides, padding=pads, precision=precision)
    y = _canonical(x, kernel, strides, pads, precision)
    parts = []
    if not _is_zero(dx):
        parts.append(conv(dx, kernel.swapaxes(2, 3), dimension_numbers=("NHWC", "HWOI", "NHWC")))
    if not _is_zero(dkernel):
        if _by_rows_pays(x, kernel, strides, y):
            parts.append(_by_rows(x, dkernel, pads, precision))
        else:
            swapped = conv(
                x.transpose(3, 1, 2, 0), dkernel.transpose(2, 0, 1, 3), dimension_numbers=("CHWN", "IHWO", "HWNC")
            )  # [H', W', B, D]
            parts.append(swapped.transpose(2, 0, 1, 3))
    return y, functools.reduce(jnp.add, parts, jnp.zeros_like(y)) if len(parts) != 1 else parts[0]


_canonical.defjvp(_canonical_tangent, symbolic_zeros=True)


def _is_zero(tangent: object) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _by_rows_pays(x: Array, kernel: Array, strides: tuple[int, int], y: Array) -> bool:
    """Whether the kernel's gradient is faster as matrix products than as a convolution."""
    (height, width), (_, kw, c, d) = y.shape[1:3], kernel.shape
    if strides != (1, 1):
        return False
    # The products also run over the kw - 1 columns at the edge, and need both channel counts to fill registers.
    small_waste = 6 * (kw - 1) <= width and min(c, d) >= 32
    # XLA swaps image and kernel where the kernel, here the gradient of y, is the larger; that is the slow loop again.
    swapped = height * width > x.shape[1] * x.shape[2]
    return small_waste or swapped


def _by_rows(x: Array, kernel: Array, pads: Pads, precision: object) -> Array:
    """Convolves as one product for each row of the kernel, [kh] x ([B * H' * W, C] @ [C, kw * D]), shifted and added.

    Slower than XLA's convolution, but its transpose in the kernel gathers nothing: rows of x are contiguous.
    """
    x = _pad(x, pads)
    (kh, kw, c, d), (b, h, w, _) = kernel.shape, x.shape
    h, rows = h - kh + 1, kernel.transpose(0, 2, 1, 3).reshape(kh, c, kw * d)
    y = sum(jnp.matmul(x[:, i : i + h].reshape(-1, c), rows[i], precision=precision) for i in range(kh))
    y = y.reshape(b, h, w, kw, d)
    return sum(y[:, :, j : j + w - kw + 1, j] for j in range(kw))
