"""What several networks are made of. The functions make layers, so they are called inside a network's `__call__`."""

import functools

import jax.numpy as jnp
from flax import linen as nn

from jaxrec import layers
from jaxrec.errors import InputError
from jaxrec.types import Array, Count, Positive, Rate, Widths

ACTIVATIONS = {
    "relu": nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": nn.sigmoid,
    "gelu": layers.gelu,
    "leaky_relu": functools.partial(nn.leaky_relu, negative_slope=0.2),
}

# Keeps the variance of gradients through a convolution and a relu: He et al. (2015).
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv(
    x: Array,
    width: Count,
    kernel: Count,
    stride: Count = 1,
    *,
    dtype: str,
    bias: bool = False,
    padding: int | None = None,
) -> Array:
    """Convolves [B, H, W, C] to [B, H', W', width].

    It pads alike on both sides, by half the kernel unless told otherwise, so that odd and even images halve as in the
    references. A batch norm after it makes a bias redundant.
    """
    return layers.Conv(
        width,
        (kernel, kernel),
        strides=(stride, stride),
        padding=kernel // 2 if padding is None else padding,
        use_bias=bias,
        kernel_init=he_normal,
        dtype=dtype,
    )(x)


def batch_norm(x: Array, *, train: bool, dtype: str, epsilon: Positive = 1e-5) -> Array:
    """Normalises [..., C] over the global batch, in float32 (Ioffe and Szegedy, 2015)."""
    norm = layers.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=epsilon, dtype=jnp.float32)
    return norm(x).astype(dtype)


def norm_relu(x: Array, *, train: bool, dtype: str, epsilon: Positive = 1e-5) -> Array:
    """Batch norm and the activation that nearly always follows."""
    return nn.relu(batch_norm(x, train=train, dtype=dtype, epsilon=epsilon))


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., 2016): drops a residual branch for whole examples.

    What is kept is scaled up in training, where the paper scales down in evaluation: the same expectation.

    Attributes:
      rate: share of the examples that are dropped.
    """

    rate: Rate = 0.0

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps [B, ...] to the same shape; `train` switches dropping on."""
        return nn.Dropout(self.rate, broadcast_dims=tuple(range(1, x.ndim)), deterministic=not train)(x)


def linear_rule(rate: Rate, blocks: Count, *, from_zero: bool = False) -> list[float]:
    """The rates of stochastic depth of each block, which rise in line to `rate` at the last (Huang et al., 2016).

    The paper's first block is one step above 0; `from_zero`, as transformers have it, never drops the first.
    """
    steps = range(blocks) if from_zero else range(1, blocks + 1)
    return [rate * step / max(steps[-1], 1) for step in steps]


def dense_layers(
    x: Array, widths: Widths, activation: str, *, dtype: str, dropout: Rate = 0.0, train: bool = False
) -> Array:
    """Maps [B, D] through a dense layer of each width, each with an activation of `ACTIVATIONS` and dropout."""
    for width in widths:
        x = ACTIVATIONS[activation](nn.Dense(width, dtype=dtype)(x))
        x = nn.Dropout(dropout, deterministic=not train)(x)
    return x


def mean_logits(x: Array, classes: Count) -> Array:
    """Logits [B, K] of the mean over pixels of [B, H, W, C], in float32."""
    return nn.Dense(classes, dtype=jnp.float32)(x.mean((1, 2), dtype=jnp.float32))


def dense_logits(x: Array, hidden: Widths, classes: Count, *, dropout: Rate, train: bool, dtype: str) -> Array:
    """Logits [B, K] of all pixels of [B, H, W, C], in float32, through dense layers, each with relu and dropout."""
    x = dense_layers(x.reshape(x.shape[0], -1), hidden, "relu", dropout=dropout, train=train, dtype=dtype)
    return nn.Dense(classes, dtype=jnp.float32)(x.astype(jnp.float32))


def something_left(x: Array, image: Array, what: str, advice: str) -> Array:
    """Returns x, which `what` made of the images [B, H, W, C].

    Raises:
      InputError: x has no pixel. What follows would fail, or be a network that sees nothing.
    """
    if not x.size:
        height, width = image.shape[1:3]
        raise InputError(f"{what}: nothing is left of an image of {height}x{width} pixels. {advice}")
    return x
