"""Recurrent networks, which read an image as a sequence."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrec.errors import InputError
from jaxrec.layers.platform import on_cpu
from jaxrec.models.blocks import ACTIVATIONS
from jaxrec.types import Array, Count, Key, NonNegative

GATES = {"simple": 1, "lstm": 4, "gru": 3}  # LSTM: input, forget, candidate, output; GRU: reset, update, candidate
ONLY_FOR = {"activation": "simple", "recurrent_init": "simple", "forget_bias": "lstm"}


class RNN(nn.Module):
    """Recurrent layers over the rows or the pixels of an image; the last state of the last layer is classified.

    Simple: Elman (1990). LSTM: Hochreiter and Schmidhuber (1997), the forget gate as in Jozefowicz et al. (2015). GRU:
    Cho et al. (2014), the reset gate after the product as in cuDNN. IRNN (Le et al., 2015): cell="simple",
    activation="relu", recurrent_init="identity".

    Attributes:
      classes: number of classes K.
      cell: what a layer does at each step.
      hidden: features D of a layer, in each direction.
      layers: how many.
      bidirectional: whether each layer also reads from the end to the start (Schuster and Paliwal, 1997). The next
        layer sees the outputs of both directions side by side. What is classified is the state that each direction
        ends in: the forward one's after the last step, the backward one's after the first.
      read: the sequence, from the top left: H rows of W * C features, or H * W pixels of C.
      activation: of the simple cell.
      recurrent_init: of the simple cell's recurrent kernel; the others' are orthogonal, gate by gate. With the identity
        the input's kernel starts at a deviation of 0.001, as in IRNN: the state adds up all that it reads.
      forget_bias: what the bias of the LSTM's forget gate starts at; all others start at 0.
      dtype: of the computation; parameters, states of gated cells and logits stay float32.
    """

    classes: Count = 10
    cell: Literal["simple", "lstm", "gru"] = "lstm"
    hidden: Count = 128
    layers: Count = 1
    bidirectional: bool = False
    read: Literal["rows", "pixels"] = "rows"
    activation: Literal["tanh", "relu"] = "tanh"
    recurrent_init: Literal["orthogonal", "identity"] = "orthogonal"
    forget_bias: NonNegative = 1.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        """Maps images [B, H, W, C] to logits [B, K]; `train` makes no difference.

        Raises:
          InputError: an argument is given that the cell does not have.
        """
        for name, cell in ONLY_FOR.items():
            if self.cell != cell and getattr(self, name) != getattr(type(self), name):
                given = f"{name} = {getattr(self, name)!r}"
                raise InputError(f"RNN {given} is for cell = '{cell}' alone, not '{self.cell}': leave it out.")
        b, h, w, c = image.shape
        x = image.reshape(b, h, w * c) if self.read == "rows" else image.reshape(b, h * w, c)
        x = x.swapaxes(0, 1).astype(self.dtype)  # [T, B, D]: a loop over time takes its steps from the first axis
        for index in range(self.layers):
            forward = self._layer(f"forward_{index}")(x)
            last = forward[-1]
            if self.bidirectional:
                backward = self._layer(f"backward_{index}", reverse=True)(x)
                last = jnp.concatenate([last, backward[0]], axis=-1)
                forward = jnp.concatenate([forward, backward], axis=-1)
            x = forward
        return nn.Dense(self.classes, dtype=jnp.float32)(last.astype(jnp.float32))

    def _layer(self, name: str, reverse: bool = False) -> nn.Module:
        arguments = (self.cell, self.hidden, self.activation, self.recurrent_init, self.forget_bias)
        return Recurrent(*arguments, reverse=reverse, dtype=self.dtype, name=name)


class Recurrent(nn.Module):
    """One layer in one direction. Attributes are those of `RNN`; `reverse` is from the end to the start.

    The columns of the kernels are the cell's gates in the order of `GATES`, `hidden` each. What the input adds to the
    gates needs no state, so it is one product for all steps, and the loop holds the product with the state alone. On a
    CPU it stays in the loop: there its result is still in the cache when it is used, and training steps are faster.
    """

    cell: Literal["simple", "lstm", "gru"]
    hidden: Count
    activation: Literal["tanh", "relu"]
    recurrent_init: Literal["orthogonal", "identity"]
    forget_bias: NonNegative
    reverse: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [T, B, D] to the outputs after each step, [T, B, hidden]."""
        features = GATES[self.cell] * self.hidden
        identity = self.recurrent_init == "identity"
        draw = nn.initializers.normal(0.001) if identity else nn.initializers.lecun_normal()
        kernel = self.param("input", draw, (x.shape[-1], features)).astype(self.dtype)
        recurrent = self.param("recurrent", self._recurrent, (self.hidden, features)).astype(self.dtype)
        bias = self.param("bias", self._bias, (features,)).astype(self.dtype)
        zeros = jnp.zeros((x.shape[1], self.hidden), jnp.float32)
        if self.cell == "simple":
            step, state = simple(recurrent, ACTIVATIONS[self.activation]), zeros.astype(self.dtype)
        elif self.cell == "lstm":
            step, state = lstm(recurrent), (zeros.astype(self.dtype), zeros)
        else:
            candidate = self.param("candidate_bias", nn.initializers.zeros, (self.hidden,)).astype(self.dtype)
            step, state = gru(recurrent, candidate.reshape(1, -1)), zeros

        def from_input(x: Array) -> Array:
            return x @ kernel + jnp.broadcast_to(bias, (*x.shape[:-1], features))

        def hoisted(x: Array) -> Array:
            return jax.lax.scan(step, state, from_input(x), reverse=self.reverse)[1]

        def looped(x: Array) -> Array:
            return jax.lax.scan(lambda state, x: step(state, from_input(x)), state, x, reverse=self.reverse)[1]

        return on_cpu(looped, hoisted, x)

    def _bias(self, key: Key, shape: tuple[int, ...]) -> Array:
        bias = jnp.zeros(shape)
        return bias.at[self.hidden : 2 * self.hidden].set(self.forget_bias) if self.cell == "lstm" else bias

    def _recurrent(self, key: Key, shape: tuple[int, ...]) -> Array:
        if self.recurrent_init == "identity":
            return jnp.eye(self.hidden)
        orthogonal, square = nn.initializers.orthogonal(), (self.hidden, self.hidden)
        return jnp.concatenate([orthogonal(gate, square) for gate in jax.random.split(key, GATES[self.cell])], axis=1)


# Each makes the step of one cell: (state, what the input adds [B, gates * D]) -> (state, output [B, D]). The state that
# a gated cell adds up is float32 whatever the kernel is.
Step = Callable[[Array, Array], tuple[Array, Array]]


def simple(kernel: Array, activation: Callable[[Array], Array]) -> Step:
    """h' = activation(x + U h)."""

    def step(h: Array, x: Array) -> tuple[Array, Array]:
        h = activation(x + h @ kernel)
        return h, h

    return step


def lstm(kernel: Array) -> Step:
    """c' = f c + i g, h' = o tanh(c'), the state being (h, c)."""

    def step(state: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        h, c = state
        i, f, g, o = jnp.split(x + h @ kernel, 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = (nn.sigmoid(o) * jnp.tanh(c)).astype(x.dtype)
        return (h, c), h

    return step


def gru(kernel: Array, bias: Array) -> Step:
    """n = tanh(x + r (U h + bias)), h' = z h + (1 - z) n."""

    def step(h: Array, x: Array) -> tuple[Array, Array]:
        r, z, n = jnp.split(x, 3, axis=-1)
        hr, hz, hn = jnp.split(h.astype(x.dtype) @ kernel, 3, axis=-1)
        z = nn.sigmoid(z + hz)
        n = jnp.tanh(n + nn.sigmoid(r + hr) * (hn + bias))
        h = z * h + (1 - z) * n
        return h, h.astype(x.dtype)

    return step
