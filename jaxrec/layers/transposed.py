"""Transposed convolution, the upsampling of generators and decoders."""

import math

from flax import linen as nn
from flax.linen.linear import canonicalize_padding

from jaxrec.layers.convolution import as_tuple, convolve, pads_zeros
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
        y = convolve(
            x, kernel, (1, 1), tuple(map(tuple, pads)), self.precision, spread=strides
        )  # [B, H', W', features]
        y = y if bias is None else y + bias.reshape(1, 1, 1, -1)
        return y.reshape(*inputs.shape[:-3], *y.shape[1:])


def _pads(k: int, stride: int, padding: str) -> tuple[int, int]:
    """The zeros that `jax.lax.conv_transpose` puts around the spread image for "SAME" and "VALID"."""
    if padding == "VALID":
        return k - 1, max(k, stride) - 1
    low = k - 1 if stride > k - 1 else -(-(k + stride - 2) // 2)
    return low, k + stride - 2 - low
