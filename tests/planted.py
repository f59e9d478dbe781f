"""Images whose class a patch at a known place decides, and networks that have learned it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxrec import layers, models
from jaxrec.types import Array, PyTree

SIDE, PATCH, GRID = 12, 6, 3  # pixels; a patch lies on the grid
LINES = np.indices((PATCH, PATCH)) % 2  # of rows, of columns
PATTERNS = np.stack([LINES[0], LINES[1], LINES[0] ^ LINES[1]]).astype(np.float32)  # [K, PATCH, PATCH]


class Planted(NamedTuple):
    image: Array  # [N, SIDE, SIDE, 1]
    label: Array  # [N]
    inside: np.ndarray  # [N, SIDE, SIDE], where the patch lies


class Pooled(nn.Module):
    """A convolution whose units are silent on faint noise, another of single places, the mean over all places."""

    stride: int = 1  # GRID: what a place sees is a patch's alone, or has none of it

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        x = nn.relu(layers.Conv(32, (GRID, GRID), strides=self.stride, use_bias=False)(image) - 1)
        x = nn.relu(layers.Conv(16, (1, 1))(x))
        return nn.Dense(len(PATTERNS))(x.mean((1, 2)))


SMALL = {"classes": len(PATTERNS), "width": 16, "depth": 1, "heads": 1, "mlp": 16}
NETWORKS = {
    "pooled": Pooled(),
    "cells": Pooled(stride=GRID),
    "vit": models.ViT(patch=GRID, **SMALL),
}


def planted(count: int, seed: int = 0) -> Planted:
    """Faint noise with a patch somewhere on the grid."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 0.2, (count, SIDE, SIDE, 1)).astype(np.float32)
    label, inside = rng.integers(len(PATTERNS), size=count), np.zeros((count, SIDE, SIDE), bool)
    for index, (row, column) in enumerate(GRID * rng.integers((SIDE - PATCH) // GRID + 1, size=(count, 2))):
        inside[index, row : row + PATCH, column : column + PATCH] = True
        image[index, row : row + PATCH, column : column + PATCH, 0] = PATTERNS[label[index]]
    return Planted(jnp.asarray(image), jnp.asarray(label), inside)


def learn(network: nn.Module, data: Planted, *, steps: int = 300, rate: float = 3e-3, seed: int = 0) -> PyTree:
    """The variables of a network that has learned all of the data, in batches of 32."""
    variables = network.init(jax.random.key(seed), data.image[:1], train=False)
    tx = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def loss(variables: PyTree, image: Array, label: Array) -> Array:
        logits = network.apply(variables, image, train=False)
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    def step(carry: tuple, key: Array) -> tuple[tuple, Array]:
        variables, state = carry
        rows = jax.random.randint(key, (32,), 0, len(data.label))
        value, gradient = jax.value_and_grad(loss)(variables, data.image[rows], data.label[rows])
        updates, state = tx.update(gradient, state)
        return (optax.apply_updates(variables, updates), state), value

    @jax.jit
    def run(variables: PyTree) -> PyTree:
        keys = jax.random.split(jax.random.key(seed + 1), steps)
        return jax.lax.scan(step, (variables, tx.init(variables)), keys)[0][0]

    return run(variables)


def share(heat: Array, inside: np.ndarray) -> float:
    """The mean share of a map's mass, [N, H, W] of 0 and more, that lies inside."""
    heat = np.maximum(np.asarray(heat, np.float64), 0)
    return float((np.sum(heat * inside, (1, 2)) / heat.sum((1, 2))).mean())
