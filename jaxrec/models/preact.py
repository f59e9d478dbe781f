"""Residual networks whose norms and activations come before the convolutions."""

import functools
from typing import Literal

from flax import linen as nn

from jaxrec.errors import InputError
from jaxrec.models.blocks import DropPath, conv, linear_rule, mean_logits, norm_relu
from jaxrec.types import Array, Count, Rate, Widths


class PreActResNet(nn.Module):
    """Residual networks with identity mappings (He et al., 2016b), those for small images.

      PreActResNet-18, 34, 50    blocks=(2, 2, 2, 2), (3, 4, 6, 3), and the latter with block="bottleneck"
      the paper's 110, 164       blocks=(18, 18, 18), width=16, the latter with block="bottleneck"

    A stage that is not the first halves the image and doubles the channels. Where the shape changes, the shortcut is a
    1x1 convolution of what the block's first norm and relu give, as in the authors' code; bottlenecks halve the image
    in their 3x3 convolution.

    Attributes:
      classes: number of classes K.
      blocks: residual blocks of each stage.
      width: channels of the first convolution, and of the first stage before `widen` and a bottleneck's fourfold.
      widen: how many times wider the blocks are (Zagoruyko and Komodakis, 2016).
      block: two 3x3 convolutions, or 1x1, 3x3, 1x1.
      last_norm: norm and relu after the last block, as in the paper; kuangliu's PreActResNet of pytorch-cifar has none.
      dropout: rate, before the last convolution of each block.
      stochastic_depth: rate at which the last block is dropped, the others in line with their depth.
      dtype: of the computation; parameters, norms and logits stay float32.
    """

    classes: Count = 10
    blocks: Widths = (2, 2, 2, 2)
    width: Count = 64
    widen: Count = 1
    block: Literal["basic", "bottleneck"] = "basic"
    last_norm: bool = True
    dropout: Rate = 0.0
    stochastic_depth: Rate = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` switches dropping and batch statistics on."""
        x = conv(image.astype(self.dtype), self.width, 3, dtype=self.dtype)
        rates = iter(linear_rule(self.stochastic_depth, sum(self.blocks)))
        for stage, count in enumerate(self.blocks):
            for index in range(count):
                width, stride = self.width * self.widen * 2**stage, 2 if stage and not index else 1
                x = self._residual(x, width, stride, next(rates), train)
        if self.last_norm:
            x = norm_relu(x, train=train, dtype=self.dtype)
        return mean_logits(x, self.classes)

    def _residual(self, x: Array, width: int, stride: int, rate: float, train: bool) -> Array:
        """[B, H, W, C] -> f(x) + shortcut(x)."""
        act = functools.partial(norm_relu, train=train, dtype=self.dtype)
        convolve = functools.partial(conv, dtype=self.dtype)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        first = act(x)
        if self.block == "basic":
            y = act(convolve(first, width, 3, stride))
            y = convolve(drop(y), width, 3)
        else:
            y = act(convolve(first, width, 1))
            y = act(convolve(y, width, 3, stride))
            y = convolve(drop(y), 4 * width, 1)
        if x.shape != y.shape:
            x = convolve(first, y.shape[-1], 1, stride)
        return x + DropPath(rate)(y, train=train)


class WideResNet(nn.Module):
    """Wide residual networks (Zagoruyko and Komodakis, 2016): fewer and wider pre-activated blocks.

      WRN-16-4, 28-10    depth=16, widen=4 and depth=28, widen=10

    Attributes:
      classes: number of classes K.
      depth: convolutions that an image passes, and the dense layer with them; 6 n + 4 for n blocks in each of three
        stages.
      widen: how many times wider the stages are than 16, 32 and 64 channels.
      dropout: rate, between the two convolutions of each block.
      stochastic_depth: rate at which the last block is dropped, the others in line with their depth.
      dtype: of the computation; parameters, norms and logits stay float32.
    """

    classes: Count = 10
    depth: Count = 28
    widen: Count = 10
    dropout: Rate = 0.0
    stochastic_depth: Rate = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` switches dropping and batch statistics on.

        Raises:
          InputError: no number of blocks makes this depth.
        """
        blocks, rest = divmod(self.depth - 4, 6)
        if blocks < 1 or rest:
            near = sorted({6 * max(1, blocks + more) + 4 for more in (0, 1)})
            raise InputError(f"WideResNet depth = {self.depth} is not 6 n + 4: use {' or '.join(map(str, near))}.")
        network = PreActResNet(
            classes=self.classes,
            blocks=(blocks,) * 3,
            width=16,
            widen=self.widen,
            dropout=self.dropout,
            stochastic_depth=self.stochastic_depth,
            dtype=self.dtype,
        )
        nn.share_scope(self, network)  # the parameters have no second name around them
        return network(image, train=train)
