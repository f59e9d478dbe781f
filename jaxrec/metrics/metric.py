"""Metrics that merge: each is a statistic of a batch that is joined over batches and devices and evaluated once.

So a metric over a split is exact, whatever the batch size, the device count or the padding of the last batch. What is
a mean merges by addition (`Mean`); what is not, such as F1 or the area under a curve, is computed from all predictions
of the split (`Predictions`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.types import Array


class Metric(Protocol):
    """A statistic that says itself how it merges. A NamedTuple of arrays, so that a compiled step can return it."""

    def across(self, axis: str) -> Self:
        """Merges it over the devices of a pmapped axis, inside the step."""

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """Merges those of several batches, on the host."""

    def compute(self) -> float | Mapping[str, float | np.ndarray]:
        """Its number, or its numbers and arrays by name."""


Metrics = Mapping[str, Metric]


class Mean(NamedTuple):
    """A mean as (total, count), both scalars: merged by addition, divided on the host."""

    total: Array
    count: Array

    def across(self, axis: str) -> "Mean":
        """Adds over devices."""
        return jax.lax.psum(self, axis)

    @classmethod
    def merge(cls, parts: Sequence["Mean"]) -> "Mean":
        """Adds in float64: a float32 running sum over an epoch would lose digits."""
        return cls(*np.sum(np.asarray(parts, np.float64), axis=0))

    def compute(self) -> float:
        """The mean; NaN of nothing."""
        return float(self.total) / float(self.count) if self.count else float("nan")


class Rows(NamedTuple):
    """Arrays with a row for each example, such as codes: merged by concatenation, in the order of the pass."""

    values: Mapping[str, Array]  # each [B, ...]
    mask: Array  # [B], False where the row is padding

    def across(self, axis: str) -> "Rows":
        """Puts the rows of all devices together, in the order of the global batch."""
        return jax.lax.all_gather(self, axis, tiled=True)

    @classmethod
    def merge(cls, parts: Sequence["Rows"]) -> "Rows":
        """Puts the rows together."""
        return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)

    def compute(self) -> dict[str, np.ndarray]:
        """Each array without padding, [N, ...]."""
        mask = np.asarray(self.mask)
        return {name: np.asarray(values)[mask] for name, values in self.values.items()}


def means(values: Mapping[str, Array], mask: Array) -> dict[str, Mean]:
    """Sums per-example values [B] under a mask [B].

    Masks with `where`, never by multiplying: a padded row may hold anything, and 0 * NaN is NaN.
    """
    count = jnp.sum(mask, dtype=jnp.float32)
    return {name: Mean(jnp.sum(jnp.where(mask, value, 0), dtype=jnp.float32), count) for name, value in values.items()}


def compute(parts: Sequence[Metrics]) -> dict[str, float | np.ndarray]:
    """Fetches the statistics of several batches, merges them and turns each into its number.

    One that has several numbers is stored under the prefix of their names: "" or "ema_".
    """
    parts = jax.device_get(list(parts))
    results = {}
    for name, first in parts[0].items():
        result = type(first).merge([part[name] for part in parts]).compute()
        several = result if isinstance(result, Mapping) else {"": result}
        results.update({name + inner: value for inner, value in several.items()})
    return results


# Plain numpy, held against scikit-learn by the tests: its own functions take a second to import, then 0.1 s for the
# smallest split, and are asked for after each epoch.
