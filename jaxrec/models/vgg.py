"""VGG networks."""

from typing import Literal

from flax import linen as nn

from jaxrec import layers
from jaxrec.models.blocks import conv, dense_logits, norm_relu, something_left
from jaxrec.types import Array, Count, Rate, Widths

# 3x3 convolutions before each of the five pools: configurations A, B, D and E of the paper's table 1.
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module):
    """Blocks of 3x3 convolutions with max pools between them (Simonyan and Zisserman, 2015).

      for 32x32 pixels, one dense layer    as it stands: kuangliu's VGG of pytorch-cifar
      torchvision's vgg16, vgg16_bn        hidden=(4096, 4096), classes=1000, norm="none" or "batch", images of 224x224

    Convolutions keep their bias before a norm, as in both references.

    Attributes:
      classes: number of classes K.
      depth: layers with weights, counted with the paper's three dense layers.
      width: channels of the first block; the others have 2, 4, 8 and 8 times as many.
      norm: after each convolution: none, as in the paper, or batch.
      hidden: widths of the dense layers before the output; the paper's are (4096, 4096).
      dropout: rate, after each hidden dense layer.
      dtype: of the computation; parameters, norms and logits stay float32.
    """

    classes: Count = 10
    depth: Literal[11, 13, 16, 19] = 16
    width: Count = 64
    norm: Literal["none", "batch"] = "batch"
    hidden: Widths = ()
    dropout: Rate = 0.5
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` switches dropout and batch statistics on.

        Raises:
          InputError: the five pools leave nothing of the image.
        """
        x = image.astype(self.dtype)
        for count, times in zip(CONVOLUTIONS[self.depth], (1, 2, 4, 8, 8), strict=True):
            for _ in range(count):
                x = conv(x, times * self.width, 3, bias=True, dtype=self.dtype)
                x = nn.relu(x) if self.norm == "none" else norm_relu(x, train=train, dtype=self.dtype)
            x = layers.max_pool(x, (2, 2), (2, 2))
            x = something_left(x, image, "VGG halves images five times", "Use images of 32x32 pixels or more.")
        return dense_logits(x, self.hidden, self.classes, dropout=self.dropout, train=train, dtype=self.dtype)
