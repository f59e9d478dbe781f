"""GoogLeNet, the first of the Inception networks."""

import functools
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxrec import layers
from jaxrec.models.blocks import conv, norm_relu, something_left
from jaxrec.types import Array, Count, Positive, Rate

# The paper's table 1: channels of the 1x1 convolution; of the 1x1 and the 3x3 after it; of the 1x1 and the 5x5 after
# it; of the 1x1 after the pool. A pool separates the stages.
STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
KERNELS = {"5x5": (5,), "3x3": (3,), "3x3-3x3": (3, 3)}


class GoogLeNet(nn.Module):
    """Nine modules that look at the image in four ways at once, Inception v1 (Szegedy et al., 2015).

    Each convolution is followed by batch norm, as in every present implementation and in none of the paper, and there
    are no auxiliary classifiers. With these arguments it equals, weight by weight:
      torchvision's googlenet(aux_logits=False)   stem="large", widest="3x3", epsilon=1e-3, dropout=0.2, classes=1000
      kuangliu's GoogLeNet of pytorch-cifar       widest="3x3-3x3", bias=True

    Attributes:
      classes: number of classes K.
      width: channels of the paper's first convolution; all others grow and shrink with it.
      stem: what comes before the modules: for small images a 3x3 convolution, or for large ones the paper's three and
        two pools. Pools are PyTorch's with one pixel of padding after the small stem, and those that may hang over the
        end of the image ("ceil mode"), the last of them 2x2, after the large.
      widest: kernel of the branch with the widest view: the paper's 5x5, torchvision's 3x3, or two of 3x3.
      bias: whether convolutions have one, which the norm makes redundant.
      dropout: rate, before the output.
      epsilon: of the norms.
      dtype: of the computation; parameters, norms and logits stay float32.
    """

    classes: Count = 10
    width: Count = 64
    stem: Literal["small", "large"] = "small"
    widest: Literal["5x5", "3x3", "3x3-3x3"] = "5x5"
    bias: bool = False
    dropout: Rate = 0.0
    epsilon: Positive = 1e-5
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` switches dropout and batch statistics on.

        Raises:
          InputError: strides and pools leave nothing of the image.
        """
        unit = functools.partial(self._unit, train=train)
        x = image.astype(self.dtype)
        if self.stem == "small":
            x = unit(x, 192, 3)
        else:
            x = self._pool(unit(x, 64, 7, 2), image)
            x = self._pool(unit(unit(x, 64, 1), 192, 3), image)
        for stage, modules in enumerate(STAGES):
            if stage:
                x = self._pool(x, image, 2 if stage == 2 and self.stem == "large" else 3)
            for one, before_three, three, before_five, five, after_pool in modules:
                narrow = unit(x, one, 1)
                middle = unit(unit(x, before_three, 1), three, 3)
                wide = unit(x, before_five, 1)
                for kernel in KERNELS[self.widest]:
                    wide = unit(wide, five, kernel)
                pooled = unit(layers.max_pool(x, (3, 3), (1, 1), "SAME"), after_pool, 1)
                x = jnp.concatenate([narrow, middle, wide, pooled], axis=-1)
        x = x.mean((1, 2), dtype=jnp.float32)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, dtype=jnp.float32)(x)

    def _unit(self, x: Array, channels: int, kernel: int, stride: int = 1, *, train: bool) -> Array:
        """Convolution, norm, relu."""
        x = conv(x, max(1, channels * self.width // 64), kernel, stride, bias=self.bias, dtype=self.dtype)
        return norm_relu(x, train=train, dtype=self.dtype, epsilon=self.epsilon)

    def _pool(self, x: Array, image: Array, window: int = 3) -> Array:
        """Halves the image by maxima."""
        pads = [(1, 1)] * 2 if self.stem == "small" else [(0, (side - window) % 2) for side in x.shape[1:3]]
        x = layers.max_pool(x, (window, window), (2, 2), pads)
        return something_left(x, image, f"GoogLeNet stem = {self.stem!r}", "Use larger images or stem = 'small'.")
