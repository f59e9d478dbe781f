"""AlexNet, the network that began deep learning on ImageNet."""

from typing import Literal

from flax import linen as nn

from jaxrec import layers
from jaxrec.models.blocks import conv, dense_logits, something_left
from jaxrec.types import Array, Count, Rate, Widths


class AlexNet(nn.Module):
    """Five convolutions, overlapping 3x3 max pools of stride 2, three dense layers (Krizhevsky et al., 2012).

      torchvision's alexnet     stem="large", classes=1000, images of 224x224

    That is the network on one device (Krizhevsky, 2014, "One weird trick"): no halves, and no normalization by
    neighbouring channels. Dropout follows each hidden layer, as in the paper; torchvision drops before them.

    Attributes:
      classes: number of classes K.
      width: channels of the first convolution; the others have 3, 6, 4 and 4 times as many.
      stem: the first convolution: for small images 5x5, which leaves 3x3 of 32x32 pixels to the dense layers, or for
        large ones 11x11 of stride 4. Nothing else changes.
      hidden: widths of the dense layers before the output.
      dropout: rate, after each hidden dense layer.
      dtype: of the computation; parameters and logits stay float32.
    """

    classes: Count = 10
    width: Count = 64
    stem: Literal["small", "large"] = "small"
    hidden: Widths = (4096, 4096)
    dropout: Rate = 0.5
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` switches dropout on.

        Raises:
          InputError: strides and pools leave nothing of the image.
        """
        x = image.astype(self.dtype)
        kernel, stride = (5, 1) if self.stem == "small" else (11, 4)
        x = self._conv(x, 1, kernel, stride=stride, padding=2)
        x = self._conv(self._pool(x, image), 3, 5)
        x = self._conv(self._pool(x, image), 6, 3)
        x = self._conv(x, 4, 3)
        x = self._conv(x, 4, 3)
        x = self._pool(x, image)
        return dense_logits(x, self.hidden, self.classes, dropout=self.dropout, train=train, dtype=self.dtype)

    def _conv(self, x: Array, times: int, kernel: int, **options: int) -> Array:
        return nn.relu(conv(x, times * self.width, kernel, bias=True, dtype=self.dtype, **options))

    def _pool(self, x: Array, image: Array) -> Array:
        what, advice = f"AlexNet stem = {self.stem!r}", "Use larger images, or stem = 'small' from 15x15 pixels on."
        return something_left(layers.max_pool(x, (3, 3), (2, 2)), image, what, advice)
