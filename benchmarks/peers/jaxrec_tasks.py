"""The benchmark's networks in jaxrec: its own models where it has them, tasks written by hand where not."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxrec import layers, losses, metrics
from jaxrec.models import CNN, MLP, RNN, ResNet, ViT
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.task import State, Task, descend


def recogniser(model: nn.Module) -> Task:
    return from_loss(model, losses.softmax_cross_entropy, optax.adam(1e-3))


def seed_cnn(width: int = 1) -> Task:
    """The seed CNN, each layer but the last `width` times as wide."""
    return recogniser(CNN(widths=(32 * width, 64 * width, 64 * width), hidden=(64 * width,), pool_last=False))


class Autoencoder(nn.Module):
    """Returns the logits of the image's pixels, [B, H * W * C]."""

    @nn.compact
    def __call__(self, image, *, train):
        x = image.reshape(len(image), -1)
        pixels = x.shape[1]
        for width in (1000, 500, 250):
            x = nn.relu(nn.Dense(width)(x))
        x = nn.Dense(30)(x)
        for width in (250, 500, 1000):
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(pixels)(x)


def pixel_cross_entropy(logits: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    image = batch["image"].reshape(logits.shape)
    return {"loss": optax.sigmoid_binary_cross_entropy(logits, image).sum(-1)}


def batch_norm(x):
    return layers.BatchNorm(use_running_average=False, momentum=0.9)(x)


class Generator(nn.Module):
    @nn.compact
    def __call__(self, z):
        x = nn.Dense(8 * 8 * 128, use_bias=False)(z).reshape(-1, 8, 8, 128)
        x = layers.ConvTranspose(64, (4, 4), (2, 2), use_bias=False)(nn.relu(batch_norm(x)))
        return jnp.tanh(layers.ConvTranspose(3, (4, 4), (2, 2))(nn.relu(batch_norm(x))))


class Discriminator(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.leaky_relu(layers.Conv(64, (4, 4), (2, 2))(x), 0.2)
        x = nn.leaky_relu(batch_norm(layers.Conv(128, (4, 4), (2, 2), use_bias=False)(x)), 0.2)
        return nn.Dense(1)(x.reshape(len(x), -1))


def dcgan() -> Task:
    """Both updates see the same fakes, so that the generator runs once in a step."""
    g, d, tx = Generator(), Discriminator(), optax.adam(2e-4, b1=0.5)

    def run(model, params, stats, x):
        y, changed = model.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])
        return y, changed["batch_stats"]

    def against(logits, target):
        return optax.sigmoid_binary_cross_entropy(logits, target)[:, 0]

    def init(key, batch):
        keys = dict(zip("gd", jax.random.split(key), strict=True))
        variables = {"g": g.init(keys["g"], jnp.zeros((1, 100))), "d": d.init(keys["d"], batch["image"])}
        params = {name: one["params"] for name, one in variables.items()}
        extra = {name: one["batch_stats"] for name, one in variables.items()}
        return State(jnp.zeros((), jnp.int32), params, {name: tx.init(one) for name, one in params.items()}, extra)

    def train_step(state, batch, key):
        params, opt_state, stats = dict(state.params), dict(state.opt_state), dict(state.extra)
        real, z = 2 * batch["image"] - 1, jax.random.normal(key, (len(batch["image"]), 100))
        fake, pull, stats["g"] = jax.vjp(lambda one: run(g, one, stats["g"], z), params["g"], has_aux=True)

        def d_loss(one):
            on_real, changed = run(d, one, stats["d"], real)
            on_fake, changed = run(d, one, changed, fake)
            losses = against(on_real, 1.0) + against(on_fake, 0.0)
            return losses.mean(), (changed, losses)

        made = descend(jax.grad(d_loss, has_aux=True), tx, params["d"], opt_state["d"])
        params["d"], opt_state["d"], (stats["d"], d_losses), _ = made

        def g_loss(fake):
            logits, changed = run(d, params["d"], stats["d"], fake)
            return against(logits, 1.0).mean(), changed

        slope, stats["d"] = jax.grad(g_loss, has_aux=True)(fake)
        updates, opt_state["g"] = tx.update(pull(slope)[0], opt_state["g"], params["g"])
        params["g"] = optax.apply_updates(params["g"], updates)
        return State(state.step + 1, params, opt_state, stats), metrics.means({"loss": d_losses}, batch["mask"])

    return Task(init, train_step, lambda state, batch, key: {})


TASKS = {
    "seed CNN": seed_cnn,
    "MLP": lambda: recogniser(MLP()),
    "dense autoencoder": lambda: from_loss(Autoencoder(), pixel_cross_entropy, optax.adam(1e-3)),
    "ViT-tiny": lambda: recogniser(ViT(pool="mean")),
    "DCGAN": dcgan,
    "LSTM": lambda: recogniser(RNN()),
    "ResNet-20": lambda: recogniser(ResNet()),
}
