"""What happens to a batch between the resident arrays and the model: pure functions inside the compiled step."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.keys import AUGMENTATION, CORRUPTION, SIDE, example_keys
from jaxrec.types import Array, Batch, Key


def chain(*transforms: Callable[[Batch], Batch]) -> Callable[[Batch], Batch]:
    """Returns the batch -> batch that applies the transforms in order."""

    def apply(batch: Batch) -> Batch:
        for transform in transforms:
            batch = transform(batch)
        return batch

    return apply


def augmented(
    functions: Sequence[Callable[[Array, Key], Array]],
    mix: Callable[[Batch, Key], Batch] | None = None,
    *,
    seed: int,
) -> Callable[[Batch], Batch]:
    """Returns batch -> batch with every image changed at random, by keys of `example_keys`.

    So an image looks the same in an epoch whatever the batch size, the number of devices, or where a run went on.

    Args:
      functions: of `jaxrec.augment`, image [H, W, C] in [0, 1], key -> image, applied in order.
      mix: of `jaxrec.augment.mix`, (batch, keys [B]) -> batch, applied last; it pairs the images of a batch.
      seed: of the keys.
    """

    def apply(batch: Batch) -> Batch:
        batch = unit_range(batch)
        keys = example_keys(batch, seed=seed, stream=AUGMENTATION)
        if functions:
            batch = {**batch, "image": _changed(functions, batch["image"], keys)}
        return mix(batch, jax.vmap(jax.random.fold_in, (0, None))(keys, len(functions))) if mix else batch

    return apply


def corrupted(functions: Sequence[Callable[[Array, Key], Array]], *, seed: int) -> Callable[[Batch], Batch]:
    """Returns batch -> batch whose "image" is changed at random and whose "target" is what it was, in [0, 1].

    For a model that is to undo the change (Vincent et al., 2010). The keys are those of `example_keys`: training draws
    anew in each epoch, an evaluation the same each time.

    Args:
      functions: of `jaxrec.augment`, applied in order.
      seed: of the keys.
    """

    def apply(batch: Batch) -> Batch:
        batch = unit_range(batch)
        keys = example_keys(batch, seed=seed, stream=CORRUPTION)
        return {**batch, "image": _changed(functions, batch["image"], keys), "target": batch["image"]}

    return apply


def alternating_flip(*, seed: int) -> Callable[[Batch], Batch]:
    """Returns batch -> batch in which an image has left and right swapped in every second epoch.

    So any two epochs show both sides, where `random_flip` shows the same one twice half of the time. The side that
    comes first is drawn for each example. Source: Jordan, 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU".
    """

    def apply(batch: Batch) -> Batch:
        sides = example_keys({"id": batch["id"]}, seed=seed, stream=SIDE)  # without the epoch: drawn once
        flip = jax.vmap(jax.random.bernoulli)(sides) ^ (batch["epoch"] % 2 == 1)
        image = batch["image"]
        return {**batch, "image": jnp.where(flip[:, None, None, None], image[:, :, ::-1], image)}

    return apply


def _changed(functions: Sequence[Callable[[Array, Key], Array]], images: Array, keys: Key) -> Array:
    """Images [B, H, W, C] after the functions in order, each of which draws from a key of its own."""

    def one(image: Array, key: Key) -> Array:
        for index, function in enumerate(functions):
            image = function(image, jax.random.fold_in(key, index))
        return image

    return jax.vmap(one)(images, keys)


def unit_range(batch: Batch) -> Batch:
    """Scales uint8 images [B, H, W, C] from [0, 255] to float32 in [0, 1]; float images pass unchanged."""
    image = batch["image"]
    if image.dtype == jnp.uint8:
        image = image.astype(jnp.float32) / 255
    return {**batch, "image": image}


def standardise(mean: np.ndarray, std: np.ndarray) -> Callable[[Batch], Batch]:
    """Returns batch -> batch with unit-range images brought to zero mean and unit deviation.

    Args:
      mean: per channel [C], of images in [0, 1].
      std: per channel [C].
    """

    mean, std = (np.reshape(value, (1, 1, 1, -1)) for value in (mean, std))

    def apply(batch: Batch) -> Batch:
        image = (unit_range(batch)["image"] - mean) / std
        return {**batch, "image": image}

    return apply


def moments(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel, float32 [C], of images [N, H, W, C] brought to [0, 1].

    A channel without variation gets deviation 1, so that `standardise` leaves it finite.
    """
    scale = 255.0 if image.dtype == np.uint8 else 1.0
    total, squares = np.zeros(image.shape[-1]), np.zeros(image.shape[-1])
    for part in np.array_split(image, max(1, len(image) // 1024)):  # float64 copies of the whole set would be large
        pixels = part.reshape(-1, image.shape[-1]).astype(np.float64) / scale
        total += pixels.sum(0)
        squares += np.square(pixels).sum(0)
    count = image[..., 0].size
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)
