"""LeNet-5, the first convolutional network in wide use."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxrec.models.cnn import CNN
from jaxrec.types import Array, Count


class LeNet5(nn.Module):
    """Two 5x5 convolutions with average pooling, three dense layers, tanh (LeCun et al., 1998).

    The form in use today, of 61,706 parameters: the paper's pools have weights, its second convolution leaves
    connections out, and its output measures distances. Others are a `CNN` with other arguments.

    Attributes:
      classes: number of classes K.
      dtype: of the computation; parameters and logits stay float32.
    """

    classes: Count = 10
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` makes no difference.

        Smaller images, the 28x28 pixels of MNIST, are framed by zeros to the paper's 32x32.
        """
        missing = [max(0, 32 - side) for side in image.shape[1:3]]
        image = jnp.pad(image, ((0, 0), *((pixels // 2, pixels - pixels // 2) for pixels in missing), (0, 0)))
        network = CNN(
            classes=self.classes,
            widths=(6, 16),
            kernel=5,
            pool="average",
            activation="tanh",
            hidden=(120, 84),
            dtype=self.dtype,
        )
        nn.share_scope(self, network)  # the parameters have no second name around them
        return network(image, train=train)
