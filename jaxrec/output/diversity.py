"""Watching a network that makes images: how much a sample of it varies, and whether it was memorised."""

from collections.abc import Callable

import jax
import numpy as np

from jaxrec.engine.loop import Hook, Moment
from jaxrec.tasks.task import State
from jaxrec.types import Array

BLOCK = 4096  # images that are compared at once, so that memory is bounded

Draw = Callable[[State], Array]  # the same sample of each state, images [N, H, W, C] in [0, 1]; compiled


def diversity(images: np.ndarray, label: np.ndarray | None = None) -> float:
    """The mean distance of two different images out of [N, H, W, C], 0 where there are no two.

    A distance is the root of the mean squared difference over pixels: 0 to 1 for images in [0, 1].

    Args:
      images: [N, H, W, C], bytes or in [0, 1].
      label: [N]; with it the two are of one class, so that a class has to vary by itself.
    """
    pairs = np.ones((len(images),) * 2, bool) if label is None else label[:, None] == label[None]
    np.fill_diagonal(pairs, False)
    return float(_distances(images, images)[pairs].sum() / max(1, pairs.sum()))


def nearest(images: np.ndarray, others: np.ndarray) -> float:
    """The mean distance, as in `diversity`, of an image to the nearest of `others` [M, H, W, C].

    Where it is, to the images that a network has learned from, far below that of held-out images, samples are copies.
    """
    starts = range(0, len(others), BLOCK)
    return float(np.min([_distances(images, others[start : start + BLOCK]).min(1) for start in starts], axis=0).mean())


def measure(
    draw: Draw,
    learned_from: np.ndarray,
    held_out: np.ndarray,
    *,
    label: np.ndarray | None = None,
    held_out_label: np.ndarray | None = None,
) -> Hook:
    """A hook that adds diversity and nearest distance of the sample to the scalars, beside those of real images.

    Args:
      draw: the sample.
      learned_from: the training images [M, H, W, C], bytes or in [0, 1], among which the nearest is looked for.
      held_out: other images, as many as the sample has: as "real/diversity" and "real/nearest" they say what is usual.
      label: of the sample, of which the diversity is that within classes then.
      held_out_label: likewise.
    """
    real = {"real/diversity": diversity(held_out, held_out_label), "real/nearest": nearest(held_out, learned_from)}

    def hook(moment: Moment) -> None:
        sample = jax.device_get(draw(moment.state))
        found = {"samples/diversity": diversity(sample, label), "samples/nearest": nearest(sample, learned_from)}
        moment.scalars.update(found | real)

    return hook


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each of N images to each of M: [N, M]."""
    a, b = (_flat(images) for images in (a, b))
    squared = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squared, 0) / a.shape[1])


def _flat(images: np.ndarray) -> np.ndarray:
    """Float32 [N, D] in [0, 1]."""
    flat = np.asarray(images).reshape(len(images), -1)
    return flat.astype(np.float32) / (255 if flat.dtype == np.uint8 else 1)
