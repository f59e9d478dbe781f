"""Convolution. Its gradients are what XLA compiles badly on a CPU."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.linear import canonicalize_padding

from jaxrec.layers.platform import in_second_order, on_cpu
from jaxrec.types import Array

Pads = tuple[tuple[int, int], tuple[int, int]]  # zeros added: ((top, bottom), (left, right)); below 0 crops


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


def convolve(
    x: Array,
    kernel: Array,
    strides: tuple[int, int],
    pads: Pads,
    precision: object = None,
    spread: tuple[int, int] = (1, 1),
) -> Array:
    """Convolves images [B, H, W, C] with a kernel [kh, kw, C, D] into [B, H', W', D].

    Args:
      x: images.
      kernel: weights.
      strides: pixels between the places where the kernel is put, down and across.
      pads: zeros around the image.
      precision: as in `jax.lax.conv_general_dilated`.
      spread: pixels between neighbours of the image, zeros in between, before padding: above 1 in a transposed
        convolution.
    """
    own = functools.partial(_own, strides=strides, pads=pads, precision=precision, spread=spread)
    sizes = _output_size(x, kernel, strides, pads, spread)
    if not jnp.issubdtype(x.dtype, jnp.floating) or min(sizes) < 1:
        return own(x, kernel)
    # A matrix product is faster than XLA's convolution, its gradients above all, where the channels do not fill a
    # vector register (color images), where a few pixels are left and where there is nothing to gather. Elsewhere
    # gathering costs more time, or memory, than it gains. The bounds lie between sizes measured with JAX 0.10 and 0.12.
    kh, kw, c, _ = kernel.shape
    few = (c <= 4 and kh * kw * c <= 64) or math.prod(sizes) <= 16 or kh * kw == 1
    if (few or in_second_order()) and spread == (1, 1):
        return on_cpu(lambda x, kernel: _product(x, kernel, strides, pads, precision), own, x, kernel)
    # What comes before is computed once, as it is: XLA fuses it into the transposition that the kernel's gradient needs
    # otherwise, and reads all of it in strides.
    return on_cpu(
        lambda x, kernel: _canonical(jax.lax.optimization_barrier(x), kernel, strides, pads, precision, spread),
        own,
        x,
        kernel,
    )


def _own(
    x: Array,
    kernel: Array,
    strides: tuple[int, int],
    pads: Pads,
    precision: object,
    spread: tuple[int, int],
    labels: tuple[str, str, str] = ("NHWC", "HWIO", "NHWC"),
) -> Array:
    """XLA's own convolution."""
    return jax.lax.conv_general_dilated(
        x, kernel, strides, pads, lhs_dilation=spread, dimension_numbers=labels, precision=precision
    )


def _output_size(
    x: Array, kernel: Array, strides: tuple[int, int], pads: Pads, spread: tuple[int, int]
) -> tuple[int, int]:
    """Height and width of the convolution's result."""
    sizes = zip(x.shape[1:3], kernel.shape[:2], strides, pads, spread, strict=True)
    return tuple(((size - 1) * gap + 1 + low + high - k) // stride + 1 for size, k, stride, (low, high), gap in sizes)


def _product(x: Array, kernel: Array, strides: tuple[int, int], pads: Pads, precision: object) -> Array:
    """Gathers the neighbourhood of each output pixel and multiplies once; its gradients are products as well."""
    (kh, kw, c, d), (sh, sw), (h, w) = kernel.shape, strides, _output_size(x, kernel, strides, pads, (1, 1))
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


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4, 5))
def _canonical(
    x: Array,
    kernel: Array,
    strides: tuple[int, int],
    pads: Pads,
    precision: object,
    spread: tuple[int, int],
) -> Array:
    """XLA's own convolution, with gradients that XLA compiles well.

    XLA transposes a convolution by relabelling its dimensions. At the top of a program it then moves the data to the
    labels that its CPU kernels know; in the body of a scan it does not, and runs a plain loop nest, 40 times slower.
    Here the tangents carry the odd labels, so that the gradients, which are their transposes, have the known ones. As
    no gradient is written by hand, forward and higher derivatives work.
    """
    return _own(x, kernel, strides, pads, precision, spread)


def _canonical_tangent(strides, pads, precision, spread, primals, tangents):
    """Sums the derivatives along the image and along the kernel."""
    (x, kernel), (dx, dkernel) = primals, tangents
    y = _canonical(x, kernel, strides, pads, precision, spread)
    parts = []
    if not _is_zero(dx):
        labels = "NHWC", "HWOI", "NHWC"
        parts.append(_own(dx, kernel.swapaxes(2, 3), strides, pads, precision, spread, labels))
    if not _is_zero(dkernel):
        grows = strides == (1, 1) and math.prod(y.shape[1:3]) > math.prod(x.shape[1:3])
        if grows or spread != (1, 1):
            parts.append(_along_kernel_by_gradient(x, dkernel, y, pads, precision, spread))
        elif _by_rows_pays(kernel, strides, y):
            parts.append(_by_rows(x, dkernel, pads, precision))
        else:
            parts.append(_along_kernel_by_image(x, dkernel, strides, pads, precision))
    return y, functools.reduce(jnp.add, parts) if parts else jnp.zeros_like(y)


_canonical.defjvp(_canonical_tangent, symbolic_zeros=True)


def _is_zero(tangent: object) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _along_kernel_by_image(x: Array, dkernel: Array, strides: tuple[int, int], pads: Pads, precision: object) -> Array:
    """Convolves so that the kernel's gradient becomes a convolution of x, with the gradient of y as its kernel."""
    labels = "CHWN", "IHWO", "HWNC"
    y = _own(x.transpose(3, 1, 2, 0), dkernel.transpose(2, 0, 1, 3), strides, pads, precision, (1, 1), labels)
    return y.transpose(2, 0, 1, 3)


def _along_kernel_by_gradient(
    x: Array, dkernel: Array, y: Array, pads: Pads, precision: object, spread: tuple[int, int]
) -> Array:
    """Convolves so that the kernel's gradient becomes a convolution of the gradient of y, with x as its kernel.

    For where y is the larger: XLA runs the plain loop nest for an image smaller than its kernel. What each pixel of x
    paints into y is the flipped kernel, so y is also the flipped kernel convolved with the flipped, spread x.
    """
    edges = []
    for size, k, out, (low, _), gap in zip(x.shape[1:3], dkernel.shape, y.shape[1:3], pads, spread, strict=False):
        start = k - 1 - low  # where y begins in what is painted
        edges.append(((size - 1) * gap - start, start + out - k))
    y = jax.lax.conv_general_dilated(
        dkernel[::-1, ::-1].transpose(3, 0, 1, 2),  # [D, kh, kw, C]
        x[:, ::-1, ::-1].transpose(1, 2, 0, 3),  # [H, W, B, C]
        (1, 1),
        edges,
        rhs_dilation=spread,
        dimension_numbers=("NHWC", "HWOI", "NHWC"),
        precision=precision,
    )
    return y.transpose(3, 1, 2, 0)  # [D, H', W', B] -> [B, H', W', D]


def _by_rows_pays(kernel: Array, strides: tuple[int, int], y: Array) -> bool:
    """Whether the kernel's gradient is faster as matrix products than as a convolution.

    The products also run over the kw - 1 columns at the edge, and need both channel counts to fill registers. With
    few channels that pays from 12 columns on, for a kernel of three, with more from 7.
    """
    _, kw, c, d = kernel.shape
    columns = 6 * (kw - 1) if min(c, d) < 64 else 3.5 * (kw - 1)
    return strides == (1, 1) and columns <= y.shape[2] and min(c, d) >= 24


def _by_rows(x: Array, kernel: Array, pads: Pads, precision: object) -> Array:
    """Convolves as products of gathered rows, [B * H' * W, kh * C] @ [kh * C, kw * D], and adds kw shifted parts.

    Slower than XLA's convolution, but its transpose in the kernel is a product of a good shape, of the gathered rows
    and kw shifted copies of the gradient of y. XLA sums over pixels faster in two halves of the batch.
    """
    x = _pad(x, pads)
    (kh, kw, c, d), (b, h, w, _) = kernel.shape, x.shape
    h, w, halves = h - kh + 1, w - kw + 1, 2 - b % 2
    rows = jnp.concatenate([x[:, i : i + h] for i in range(kh)], axis=-1).reshape(halves, -1, kh * c)
    weights = kernel.transpose(0, 2, 1, 3).reshape(kh * c, kw * d)
    y = jnp.matmul(rows, jnp.broadcast_to(weights, (halves, *weights.shape)), precision=precision)
    # Transposed, the split is one concatenation and the crop one padding: adding up padded copies is slow.
    parts = jnp.split(y.reshape(b, h, w + kw - 1, kw * d), kw, axis=-1)
    y = sum(_pad(part, ((0, 0), (kw - 1 - j, j))) for j, part in enumerate(parts))
    return y[:, :, kw - 1 : kw - 1 + w]
