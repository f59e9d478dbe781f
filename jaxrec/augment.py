"""Pure functions on batches of images that run inside the compiled step."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxrec.types import Batch


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
