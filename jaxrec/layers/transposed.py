"""Transposed convolution, the upsampling of generators and decoders."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.linear import canonicalize_padding

from jaxrec.layers.blocks import depth_to_space
from jaxrec.layers.convolution import NHWC, Pads, as_tuple, convolve, pads_zeros
from jaxrec.layers.platform import on_cpu
from jaxrec.types import Array


class ConvTranspose(nn.ConvTranspose):
    """`flax.linen.ConvTranspose`: same attributes, parameters and results; images [..., H, W, C] are faster on a CPU.

    Dilated, masked and one- or three-dimensional kernels, and padding other than by zeros, are flax's.
    """

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps [..., H, W, C] to [..., H', W', features]; raises what flax raises."""
        plane = len(as_tuple(self.kernel_size, 1)) == 2 and inputs.ndim >= 3
        dilated = {*as_tuple(self.kernel_dilation, 2)} != {1}
        given = (self.mask, self.preferred_element_type)
        if not plane or dilated or any(value is not None for value in given) or not pads_zeros(self.padding):
            return super().__call__(inputs)
        channels = (self.features, inputs.shape[-1]) if self.transpose_kernel else (inputs.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, *channels), self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        inputs, kernel, bias = self.promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        if self.transpose_kernel:
            kernel = kernel[::-1, ::-1].swapaxes(2, 3)
        x = inputs.reshape(math.prod(inputs.shape[:-3]), *inputs.shape[-3:])  # [B, H, W, C]
        strides = as_tuple(self.strides, 2)
        pads = canonicalize_padding(self.padding, 2)
        if isinstance(pads, str):
            pads = [_pads(k, stride, pads) for k, stride in zip(self.kernel_size, strides, strict=True)]
        y = _convolve_transposed(x, kernel, strides, tuple(map(tuple, pads)), self.precision)  # [B, H', W', features]
        y = y if bias is None else y + bias.reshape(1, 1, 1, -1)
        return y.reshape(*inputs.shape[:-3], *y.shape[1:])


def _pads(k: int, stride: int, padding: str) -> tuple[int, int]:
    """The zeros that `jax.lax.conv_transpose` puts around the spread image for "SAME" and "VALID"."""
    if padding == "VALID":
        return k - 1, max(k, stride) - 1
    low = k - 1 if stride > k - 1 else -(-(k + stride - 2) // 2)
    return low, k + stride - 2 - low


def _convolve_transposed(x: Array, kernel: Array, strides: tuple[int, int], pads: Pads, precision: object) -> Array:
    """Spreads [B, H, W, C] by `strides`, pads it, convolves it with [kh, kw, C, D] into [B, H', W', D]."""
    if strides == (1, 1):
        return convolve(x, kernel, strides, pads, precision)
    own = functools.partial(_own, strides=strides, pads=pads, precision=precision)
    (sh, sw), (kh, kw) = strides, kernel.shape[:2]
    covered = all(k - 1 >= low and max(k, sh) - 1 >= high for k, (low, high) in zip((kh, kw), pads, strict=True))
    if sh != sw or not covered or not jnp.issubdtype(x.dtype, jnp.floating):
        return own(x, kernel)
    return on_cpu(lambda x, kernel: _product(x, kernel, sh, pads, precision), own, x, kernel)


def _own(x: Array, kernel: Array, strides: tuple[int, int], pads: Pads, precision: object) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), pads, lhs_dilation=strides, dimension_numbers=NHWC, precision=precision
    )


def _product(x: Array, kernel: Array, stride: int, pads: Pads, precision: object) -> Array:
    """Multiplies once, adds the overlapping parts as shifted blocks of `stride` x `stride` pixels, spreads the blocks.

    Each input pixel paints the flipped kernel into the output, `stride` pixels from its neighbour's. Cut into blocks,
    the kernel is th x tw of them, and block (t, u) of what pixel (i, j) paints belongs to output block (i + t, j + u).
    XLA's own gradient of this operation is a plain loop nest, 20 times slower than the arithmetic.
    """
    (b, h, w, c), (kh, kw, _, d) = x.shape, kernel.shape
    th, tw = -(-kh // stride), -(-kw // stride)
    painted = jnp.pad(kernel[::-1, ::-1], ((0, th * stride - kh), (0, tw * stride - kw), (0, 0), (0, 0)))
    painted = painted.reshape(th, stride, tw, stride, c, d).transpose(4, 0, 2, 1, 3, 5).reshape(c, -1)
    parts = jnp.matmul(x.reshape(-1, c), painted, precision=precision).reshape(b, h, w, th, tw, stride * stride * d)
    blocks = sum(
        jnp.pad(parts[:, :, :, t, u], ((0, 0), (t, th - 1 - t), (u, tw - 1 - u), (0, 0)))
        for t in range(th)
        for u in range(tw)
    )  # [B, H + th - 1, W + tw - 1, stride**2 * D]
    y = depth_to_space(blocks, stride)
    top, left = (k - 1 - low for k, (low, _) in zip((kh, kw), pads, strict=True))
    height, width = ((n - 1) * stride + 1 + sum(p) - k + 1 for n, p, k in zip((h, w), pads, (kh, kw), strict=True))
    return y[:, top : top + height, left : left + width]
