"""Metrics that merge: each is a statistic that is added over batches and devices and turned into a number once.

So a metric over a split is exact, whatever the batch size, the device count or the padding of the last batch.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.types import Array


class Mean(NamedTuple):
    """A mean as (total, count), both scalars: merged by addition, divided on the host."""

    total: Array
    count: Array

    def compute(self) -> float:
        """The mean; NaN of nothing."""
        return float(self.total) / float(self.count) if self.count else float("nan")


Metrics = Mapping[str, Mean]


def means(values: Mapping[str, Array], mask: Array) -> dict[str, Mean]:
    """Sums per-example values [B] under a mask [B].

    Masks with `where`, never by multiplying: a padded row may hold anything, and 0 * NaN is NaN.
    """
    count = jnp.sum(mask, dtype=jnp.float32)
    return {name: Mean(jnp.sum(jnp.where(mask, value, 0), dtype=jnp.float32), count) for name, value in values.items()}


def compute(parts: Sequence[Metrics]) -> dict[str, float]:
    """Fetches the statistics of several batches, merges them and turns each into its number.

    The sum is taken in float64 on the host: a float32 running sum over an epoch would lose digits.
    """
    parts = [dict(part) for part in jax.device_get(list(parts))]
    merged = jax.tree.map(lambda *values: np.sum(np.asarray(values, np.float64), axis=0), *parts)
    return {name: metric.compute() for name, metric in merged.items()}
