"""Plain flax: linen's own modules and a jitted, donated step, written as flax's examples are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training import train_state

from peers.networks import NETWORKS, family
from peers.turns import Turns


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.max_pool(nn.relu(nn.Conv(32, (3, 3), padding="VALID")(x)), (2, 2), (2, 2))
        x = nn.max_pool(nn.relu(nn.Conv(64, (3, 3), padding="VALID")(x)), (2, 2), (2, 2))
        x = nn.relu(nn.Conv(64, (3, 3), padding="VALID")(x))
        x = nn.relu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


class Dense(nn.Module):
    widths: tuple[int, ...]
    linear: tuple[int, ...]  # the layers without relu

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for number, width in enumerate(self.widths):
            x = nn.Dense(width)(x)
            x = x if number in self.linear else nn.relu(x)
        return x


class ViT(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(192, (4, 4), (4, 4), padding="VALID")(x).reshape(len(x), 64, 192)
        x = x + self.param("positions", nn.initializers.normal(0.02), (64, 192))
        for _ in range(6):
            x = x + nn.MultiHeadDotProductAttention(num_heads=3)(nn.LayerNorm()(x))
            y = nn.gelu(nn.Dense(768)(nn.LayerNorm()(x)))
            x = x + nn.Dense(192)(y)
        return nn.Dense(10)(nn.LayerNorm()(x).mean(1))


class LSTM(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.RNN(nn.OptimizedLSTMCell(128))(x[..., 0])[:, -1])


def batch_norm(x):
    return nn.BatchNorm(use_running_average=False, momentum=0.9)(x)


class ResNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(batch_norm(nn.Conv(16, (3, 3), use_bias=False)(x)))
        for width in (16, 32, 64):
            for _ in range(3):
                stride = width // x.shape[-1]
                y = nn.relu(batch_norm(nn.Conv(width, (3, 3), (stride, stride), use_bias=False)(x)))
                y = batch_norm(nn.Conv(width, (3, 3), use_bias=False)(y))
                x = jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, width - x.shape[-1])))
                x = nn.relu(x + y)
        return nn.Dense(10)(x.mean((1, 2)))


class Generator(nn.Module):
    @nn.compact
    def __call__(self, z):
        x = nn.Dense(8 * 8 * 128, use_bias=False)(z).reshape(-1, 8, 8, 128)
        x = nn.ConvTranspose(64, (4, 4), (2, 2), use_bias=False)(nn.relu(batch_norm(x)))
        return jnp.tanh(nn.ConvTranspose(3, (4, 4), (2, 2))(nn.relu(batch_norm(x))))


class Discriminator(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.leaky_relu(nn.Conv(64, (4, 4), (2, 2))(x), 0.2)
        x = nn.leaky_relu(batch_norm(nn.Conv(128, (4, 4), (2, 2), use_bias=False)(x)), 0.2)
        return nn.Dense(1)(x.reshape(len(x), -1))


MODELS = {
    "seed CNN": CNN(),
    "MLP": Dense((512, 512, 10), linear=(2,)),
    "dense autoencoder": Dense((1000, 500, 250, 30, 250, 500, 1000, 784), linear=(3, 7)),
    "ViT-tiny": ViT(),
    "LSTM": LSTM(),
    "ResNet-20": ResNet(),
}


class State(train_state.TrainState):
    batch_stats: Any


def create(model: nn.Module, tx: optax.GradientTransformation, x: np.ndarray) -> State:
    variables = model.init(jax.random.key(0), x)
    stats = variables.get("batch_stats", {})
    return State.create(apply_fn=model.apply, params=variables["params"], tx=tx, batch_stats=stats)


def forward(state: State, params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
    """(outputs, new batch statistics)."""
    y, changed = state.apply_fn({"params": params, "batch_stats": state.batch_stats}, x, mutable=["batch_stats"])
    return y, changed.get("batch_stats", {})


def supervised(model: nn.Module, shape: tuple[int, ...], reconstruct: bool) -> tuple[State, Callable]:
    def step(state: State, image: jax.Array, label: jax.Array, key: jax.Array) -> tuple[State, jax.Array]:
        def loss(params):
            y, stats = forward(state, params, image)
            if reconstruct:
                return optax.sigmoid_binary_cross_entropy(y, image.reshape(y.shape)).sum(-1).mean(), stats
            return optax.softmax_cross_entropy_with_integer_labels(y, label).mean(), stats

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads, batch_stats=stats), value

    return create(model, optax.adam(1e-3), np.zeros((1, *shape), np.float32)), step


def dcgan(shape: tuple[int, ...]) -> tuple[tuple[State, State], Callable]:
    def against(logits: jax.Array, target: float) -> jax.Array:
        return optax.sigmoid_binary_cross_entropy(logits, target).mean()

    def step(states: tuple[State, State], image: jax.Array, label: jax.Array, key: jax.Array):
        g, d = states
        real, z = 2 * image - 1, jax.random.normal(key, (len(image), 100))
        fake, pull, g_stats = jax.vjp(lambda params: forward(g, params, z), g.params, has_aux=True)

        def d_loss(params):
            on_real, stats = forward(d, params, real)
            on_fake, stats = forward(d.replace(batch_stats=stats), params, fake)
            return against(on_real, 1.0) + against(on_fake, 0.0), stats

        (value, stats), grads = jax.value_and_grad(d_loss, has_aux=True)(d.params)
        d = d.apply_gradients(grads=grads, batch_stats=stats)

        def g_loss(fake):
            logits, stats = forward(d, d.params, fake)
            return against(logits, 1.0), stats

        slope, stats = jax.grad(g_loss, has_aux=True)(fake)
        return (g.apply_gradients(grads=pull(slope)[0], batch_stats=g_stats), d.replace(batch_stats=stats)), value

    tx = optax.adam(2e-4, b1=0.5)
    images = np.zeros((1, *shape), np.float32)
    return (create(Generator(), tx, np.zeros((1, 100), np.float32)), create(Discriminator(), tx, images)), step


def train(name: str, arrays: dict[str, np.ndarray], turns: Turns, channels_last: bool) -> None:
    del channels_last  # as they always are in flax
    network, kind = NETWORKS[name], family(name)
    if kind == "DCGAN":
        state, step = dcgan(network.shape)
    else:
        state, step = supervised(MODELS[kind], network.shape, kind == "dense autoencoder")
    states = state if isinstance(state, tuple) and not isinstance(state, State) else (state,)
    turns.facts["parameters"] = sum(leaf.size for one in states for leaf in jax.tree.leaves(one.params))
    images, labels = jnp.asarray(arrays["image"]), jnp.asarray(arrays["label"])

    def train_step(state, images, labels, rows, key):
        key, now = jax.random.split(key)
        return *step(state, images[rows].astype(jnp.float32) / 255, labels[rows], now), key

    train_step = jax.jit(train_step, donate_argnums=0)
    key, random, done = jax.random.key(1), np.random.default_rng(0), 0
    while True:
        order = random.permutation(len(images)).astype(np.int32)
        for start in range(0, len(order) - network.batch + 1, network.batch):
            state, value, key = train_step(state, images, labels, order[start : start + network.batch], key)
            done += 1
            if done % network.chunk == 0:
                jax.block_until_ready((state, value))
                turns.tick(network.chunk * network.batch)
