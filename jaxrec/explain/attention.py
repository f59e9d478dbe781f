"""What a transformer attends to."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrec.errors import InputError
from jaxrec.types import Array, PyTree

LOOSE = 0.2  # how far the proportions of the tokens' grid may be from the image's: strides round up


class Attention(NamedTuple):
    """The attention of a transformer on a batch of images."""

    weights: Sequence[Array]  # of each block, [B, heads, T, T]; a row is what one token attends to
    read: Array  # [B, T]: the share that each token of the last block has in what is classified


def attention_of(network: nn.Module, variables: PyTree, image: Array) -> Attention:
    """The attention of a network of `jaxrec.models.transformer.Block`s: ViT, CCT, or one that is built like them.

    What is classified is the mean under a dense layer "pool" (`CCT`), the token of a parameter "cls", or the mean.

    Args:
      network: called as `network(image, train=False)`.
      variables: its own.
      image: [B, H, W, C], as it takes them.

    Raises:
      InputError: it has no attention.
    """
    _, found = network.apply(
        variables,
        image,
        train=False,
        capture_intermediates=lambda module, _: module.name == "pool",
        mutable=["intermediates"],
    )
    found = found.get("intermediates", {})
    blocks = [name for name, kept in found.items() if "attention" in kept]
    if not blocks:
        raise InputError(f"{type(network).__name__} has no attention: rollout is for transformers, ViT and CCT.")
    weights = [found[name]["attention"][0] for name in sorted(blocks, key=lambda name: int(name.rpartition("_")[2]))]
    batch, _, tokens, _ = weights[-1].shape
    if "pool" in found:
        read = jax.nn.softmax(found["pool"]["__call__"][0][..., 0])
    elif "cls" in variables["params"]:
        read = jnp.zeros((batch, tokens)).at[:, 0].set(1)
    else:
        read = jnp.full((batch, tokens), 1 / tokens)
    return Attention(weights, read)


def rollout(attention: Attention, shape: tuple[int, int]) -> Array:
    """How much of each patch of the image reaches what is classified, [B, H, W] (Abnar and Zuidema, 2020).

    A block hands on half of what it attends to, the mean over its heads, and half of itself, by its shortcut. It is the
    same for every class.

    Args:
      attention: as `attention_of` gives it. Where tokens are no grid of the image's proportions, the first is left out.
      shape: (H, W) of the images.
    """
    reached = attention.read  # [B, T]
    for weights in reversed(attention.weights):
        reached = (reached + jnp.einsum("bt,bts->bs", reached, weights.mean(1))) / 2
    rows, columns = _grid(reached.shape[1], shape)
    patches = reached[:, -rows * columns :].reshape(-1, rows, columns)
    return jax.image.resize(patches, (len(reached), *shape), "nearest")


def _grid(tokens: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the tokens, of all or of all but the first."""
    for count in (tokens, tokens - 1):
        rows = round(math.sqrt(count * shape[0] / shape[1]))
        if rows and count % rows == 0 and abs(rows * rows * shape[1] / (count * shape[0]) - 1) < LOOSE:
            return rows, count // rows
    raise InputError(f"rollout: {tokens} tokens are no grid over an image of {shape[0]}x{shape[1]} pixels.")
