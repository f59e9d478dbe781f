"""What several networks are made of."""

import jax.numpy as jnp
from flax import linen as nn

ACTIVATIONS = {"relu": nn.relu, "tanh": jnp.tanh, "sigmoid": nn.sigmoid, "gelu": nn.gelu}
