"""Densely connected networks."""

import functools
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxrec import layers
from jaxrec.models.blocks import conv, mean_logits, norm_relu, something_left
from jaxrec.types import Array, Count, Rate, Widths


class DenseNet(nn.Module):
    """Every layer of a block sees the outputs of all layers before it (Huang et al., 2017).

      DenseNet-BC, L=100, k=12    as it stands: n = (L - 4) / 6 layers in each of three blocks
      DenseNet, L=40, k=12        blocks=(12, 12, 12), width=16, bottleneck=False, compress=False
      DenseNet-121                blocks=(6, 12, 24, 16), growth=32, stem="large"

    Attributes:
      classes: number of classes K.
      blocks: layers of each block.
      growth: channels that a layer adds, the paper's k.
      width: channels of the first convolution; None: twice the growth.
      stem: a 3x3 convolution, or for large images a 7x7 convolution of stride 2 and a 3x3 max pool of stride 2.
      bottleneck: whether a 1x1 convolution to four times the growth precedes each layer's 3x3 (DenseNet-B).
      compress: whether the 1x1 convolution between two blocks halves the channels (DenseNet-C).
      dropout: rate, after each convolution but the first.
      dtype: of the computation; parameters, norms and logits stay float32.
    """

    classes: Count = 10
    blocks: Widths = (16, 16, 16)
    growth: Count = 12
    width: Count | None = None
    stem: Literal["small", "large"] = "small"
    bottleneck: bool = True
    compress: bool = True
    dropout: Rate = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` switches dropout and batch statistics on.

        Raises:
          InputError: strides and pools leave nothing of the image.
        """
        drop = nn.Dropout(self.dropout, deterministic=not train)
        convolve = functools.partial(conv, dtype=self.dtype)
        act = functools.partial(norm_relu, train=train, dtype=self.dtype)
        x, width = image.astype(self.dtype), self.width or 2 * self.growth
        if self.stem == "small":
            x = convolve(x, width, 3)
        else:
            x = layers.max_pool(act(convolve(x, width, 7, 2)), (3, 3), (2, 2), ((1, 1), (1, 1)))
        for block, count in enumerate(self.blocks):
            if block:
                x = drop(convolve(act(x), x.shape[-1] // (2 if self.compress else 1), 1))
                x = layers.avg_pool(x, (2, 2), (2, 2))
                what = f"DenseNet of {len(self.blocks)} blocks, stem = {self.stem!r}"
                x = something_left(x, image, what, "Use larger images or fewer blocks.")
            for _ in range(count):
                y = act(x)
                if self.bottleneck:
                    y = act(drop(convolve(y, 4 * self.growth, 1)))
                x = jnp.concatenate([x, drop(convolve(y, self.growth, 3))], axis=-1)
        return mean_logits(act(x), self.classes)
