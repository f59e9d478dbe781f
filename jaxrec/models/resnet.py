"""Residual networks."""

import functools
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxrec import layers
from jaxrec.models.blocks import DropPath, batch_norm, conv, linear_rule, mean_logits, norm_relu
from jaxrec.types import Array, Count, Rate, Widths


class ResNet(nn.Module):
    """Residual networks (He et al., 2016a), those for small images and those for ImageNet.

      ResNet-20, 32, 56         blocks=(n, n, n) with n = 3, 5, 9
      ResNet-18, 34             blocks=(2, 2, 2, 2), (3, 4, 6, 3), width=64, stem="large", shortcut="project"
      ResNet-50                 the blocks of 34 with block="bottleneck"

    A stage that is not the first halves the image and doubles the channels. Bottlenecks halve it in their 3x3
    convolution, as in PyTorch's reference, not in the first 1x1 as in the paper.

    Attributes:
      classes: number of classes K.
      blocks: residual blocks of each stage.
      width: channels of the first stage, before a bottleneck's fourfold expansion.
      block: two 3x3 convolutions, or 1x1, 3x3, 1x1.
      stem: a 3x3 convolution, or for large images a 7x7 convolution of stride 2 and a 3x3 max pool of stride 2.
      shortcut: where the shape changes: every other pixel and channels of zeros (the paper's option A), or a 1x1
        convolution (option B).
      stochastic_depth: rate at which the last block is dropped, the others in line with their depth.
      dtype: of the computation; parameters, norms and logits stay float32.
    """

    classes: Count = 10
    blocks: Widths = (3, 3, 3)
    width: Count = 16
    block: Literal["basic", "bottleneck"] = "basic"
    stem: Literal["small", "large"] = "small"
    shortcut: Literal["pad", "project"] = "pad"
    stochastic_depth: Rate = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` switches dropping and batch statistics on."""
        act = functools.partial(norm_relu, train=train, dtype=self.dtype)
        x = image.astype(self.dtype)
        if self.stem == "small":
            x = act(conv(x, self.width, 3, dtype=self.dtype))
        else:
            x = act(conv(x, self.width, 7, 2, dtype=self.dtype))
            x = layers.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        rates = iter(linear_rule(self.stochastic_depth, sum(self.blocks)))
        for stage, count in enumerate(self.blocks):
            for index in range(count):
                x = self._residual(x, self.width * 2**stage, 2 if stage and not index else 1, next(rates), train)
        return mean_logits(x, self.classes)

    def _residual(self, x: Array, width: int, stride: int, rate: float, train: bool) -> Array:
        """[B, H, W, C] -> relu(f(x) + shortcut(x))."""
        norm = functools.partial(batch_norm, train=train, dtype=self.dtype)
        act = functools.partial(norm_relu, train=train, dtype=self.dtype)
        convolve = functools.partial(conv, dtype=self.dtype)
        if self.block == "basic":
            y = act(convolve(x, width, 3, stride))
            y = norm(convolve(y, width, 3))
        else:
            y = act(convolve(x, width, 1))
            y = act(convolve(y, width, 3, stride))
            y = norm(convolve(y, 4 * width, 1))
        more = y.shape[-1] - x.shape[-1]
        if self.shortcut == "project" and (more or stride > 1):
            x = norm(convolve(x, y.shape[-1], 1, stride))
        elif more or stride > 1:
            x = jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2)))
        return nn.relu(DropPath(rate)(y, train=train) + x)
