"""Plain convolutional networks, the ones that every introduction to image recognition builds."""

import functools
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxrec import layers
from jaxrec.models.blocks import ACTIVATIONS, batch_norm, something_left
from jaxrec.types import Array, Blocks, Count, Rate, Widths

POOLS = {"max": layers.max_pool, "average": layers.avg_pool}
MONOTONE = ("relu", "tanh", "sigmoid")  # activations that never fall


class CNN(nn.Module):
    """Convolutions with pooling between them, then dense layers (LeCun et al., 1998).

    The classic tutorials' networks, each followed by its output layer of `classes` logits:
      Conv32-pool-Conv64-pool-Dense64            widths=(32, 64), hidden=(64,)
      Conv32-pool-Conv64-pool-Conv64-Dense64     widths=(32, 64, 64), hidden=(64,), pool_last=False

    Attributes:
      classes: number of classes K.
      widths: output channels of each convolution; an inner sequence is a block of convolutions without pooling
        between them: ((32, 32), (64, 64)).
      kernel: side of the square kernels.
      pool: what reduces each 2x2 square after a block.
      pool_last: whether the last block is pooled too.
      activation: after each convolution and hidden layer.
      hidden: widths of the dense layers before the output.
      dropout: rate, before each dense layer.
      norm: after each convolution: none, batch (statistics over the global batch) or group (8 groups, or fewer where
        the width asks for it).
      padding: of the convolutions.
      dtype: of the computation; parameters, norms and logits stay float32.
    """

    classes: Count = 10
    widths: Blocks = (32, 64)
    kernel: Count = 3
    pool: Literal["max", "average"] = "max"
    pool_last: bool = True
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "relu"
    hidden: Widths = (64,)
    dropout: Rate = 0.0
    norm: Literal["none", "batch", "group"] = "none"
    padding: Literal["VALID", "SAME"] = "VALID"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` switches dropout and batch statistics on.

        Raises:
          InputError: convolutions and pools leave nothing of the image.
        """
        activation = ACTIVATIONS[self.activation]
        pool = functools.partial(POOLS[self.pool], window_shape=(2, 2), strides=(2, 2))
        # The maximum of f(x + bias) is f(maximum of x + bias) where f never falls: the same function, with a quarter of
        # the pixels left for bias and activation. A norm's statistics need all of them.
        early = self.pool == "max" and self.norm == "none" and self.activation in MONOTONE
        blocks = [[block] if isinstance(block, int) else block for block in self.widths]
        x = image.astype(self.dtype)  # [B, H, W, C]
        for number, block in enumerate(blocks, start=1):
            for index, width in enumerate(block, start=1):
                pooled = index == len(block) and (self.pool_last or number < len(blocks))
                x = layers.Conv(
                    width,
                    (self.kernel, self.kernel),
                    padding=self.padding,
                    use_bias=self.norm == "none",  # a norm's own offset makes the bias redundant
                    dtype=self.dtype,
                    max_pool=pool if pooled and early else None,
                )(x)
                x = activation(self._normalise(x, train))
                if pooled and not early:
                    x = pool(x)
                what = f"CNN widths = {self.widths}, padding = {self.padding!r}"
                x = something_left(x, image, what, "Use fewer blocks or padding = 'SAME'.")
        x = x.reshape(x.shape[0], -1)  # [B, D]
        for width in self.hidden:
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = activation(nn.Dense(width, dtype=self.dtype)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, dtype=jnp.float32)(x.astype(jnp.float32))  # [B, K]

    def _normalise(self, x: Array, train: bool) -> Array:
        """Normalises [B, H, W, C] in float32, whatever the computation's dtype: half precision loses statistics."""
        if self.norm == "none":
            return x
        if self.norm == "batch":
            return batch_norm(x, train=train, dtype=self.dtype)
        return nn.GroupNorm(num_groups=_groups(x.shape[-1]), dtype=jnp.float32)(x).astype(self.dtype)


def _groups(width: int) -> int:
    """The largest number of groups up to 8 that divides `width`."""
    return max(groups for groups in range(1, 9) if width % groups == 0)
