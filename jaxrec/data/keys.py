"""What is random about an example: keys that follow from (seed, epoch, example) and from nothing else."""

import jax
import jax.numpy as jnp

from jaxrec.types import Array, Batch, Key

# What an example draws comes from streams of its own: numbers that no step has, where steps fold theirs into the same
# seed. One for augmentation, one for the noise that a model draws of its code, one for what hides the input from it,
# one for the side that an image shows first.
AUGMENTATION, NOISE, CORRUPTION, SIDE = 2**32 - 1, 2**32 - 2, 2**32 - 3, 2**32 - 4

EVALUATION = -1  # stands for the epoch where a batch has none


def example_keys(batch: Batch, *, stream: int) -> Key:
    """A key for each example, [B], that follows from its "seed", "epoch" and "id" and from nothing else of the batch.

    An evaluation, whose batches have no "epoch", draws the same each time. The seed is part of the batch, so that one
    compiled program serves every seed.
    """
    epochs = batch.get("epoch", jnp.full_like(batch["id"], EVALUATION))

    def key(seed: Array, epoch: Array, example: Array) -> Key:
        root = jax.random.fold_in(jax.random.key(seed), stream)
        return jax.random.fold_in(jax.random.fold_in(root, epoch), example)

    return jax.vmap(key)(batch["seed"], epochs, batch["id"])
