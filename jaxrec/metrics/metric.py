"""Metrics that merge: each is a statistic of a batch that is joined over batches and devices and evaluated once.

So a metric over a split is exact, whatever the batch size, the device count or the padding of the last batch. What is
a mean merges by addition (`Mean`); what is not, such as F1 or the area under a curve, is computed from all predictions
of the split (`Predictions`).
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.errors import InputError, described
from jaxrec.types import Array, PyTree


class Metric(Protocol):
    """A statistic that says itself how it merges. A NamedTuple of arrays, so that a compiled step can return it."""

    def across(self, axis: str) -> Self:
        """Merges it over the devices of a pmapped axis, inside the step."""

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """Merges those of several batches, on the host."""

    def compute(self) -> float | np.ndarray | Mapping[str, float | np.ndarray]:
        """Its number or array, or its numbers and arrays by name."""


Metrics = Mapping[str, Metric]


class Mean(NamedTuple):
    """A mean, or an array of them, as (total, count): merged by addition, divided on the host.

    One for each class, such as the accuracy by class, is a total and a count of [K]; where all means are over the same
    examples, the count may be a scalar.
    """

    total: Array  # [] or [K, ...]
    count: Array  # [], or of the total's shape

    def across(self, axis: str) -> "Mean":
        """Adds over devices."""
        return jax.lax.psum(self, axis)

    @classmethod
    def merge(cls, parts: Sequence["Mean"]) -> "Mean":
        """Adds in float64: a float32 running sum over an epoch would lose digits."""
        return cls(*(functools.reduce(np.add, np.asarray(each, np.float64)) for each in zip(*parts, strict=True)))

    def compute(self) -> float | np.ndarray:
        """The mean, a float or an array of the total's shape; NaN of nothing."""
        total, count = np.asarray(self.total, np.float64), np.asarray(self.count, np.float64)
        mean = total / np.where(count == 0, np.nan, count)
        return mean if mean.ndim else float(mean)


class Largest(NamedTuple):
    """The largest value that any batch had: merged by the maximum."""

    value: Array  # []

    def across(self, axis: str) -> "Largest":
        """The largest over devices."""
        return jax.lax.pmax(self, axis)

    @classmethod
    def merge(cls, parts: Sequence["Largest"]) -> "Largest":
        """The largest of several batches."""
        return cls(np.max([part.value for part in parts]))

    def compute(self) -> float:
        """The value."""
        return float(self.value)


class Rows(NamedTuple):
    """Arrays with a row for each example, such as codes: merged by concatenation, in the order of the pass."""

    values: Mapping[str, PyTree]  # trees of [B, ...]
    mask: Array  # [B], False where the row is padding

    def across(self, axis: str) -> "Rows":
        """Puts the rows of all devices together, in the order of the global batch."""
        return gather(self, axis)

    @classmethod
    def merge(cls, parts: Sequence["Rows"]) -> "Rows":
        """Puts the rows together."""
        return concatenate(parts)

    def compute(self) -> dict[str, PyTree]:
        """Each array without padding, [N, ...]."""
        mask = np.asarray(self.mask)
        return jax.tree.map(lambda rows: np.asarray(rows)[mask], dict(self.values))


def gather(rows: PyTree, axis: str) -> PyTree:
    """Puts the rows of all devices of a pmapped axis together, in the order of the global batch: a tree of [B, ...]."""
    return jax.lax.all_gather(rows, axis, tiled=True)


def concatenate(parts: Sequence[PyTree]) -> PyTree:
    """Puts the rows of several batches together, on the host: trees of [B, ...]."""
    return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)


def means(values: Mapping[str, Array], mask: Array, *, required: Sequence[str] = ()) -> dict[str, Mean]:
    """Sums per-example values [B] under a mask [B], in float32.

    Masks with `where`, never by multiplying: a padded row may hold anything, and 0 * NaN is NaN.

    Args:
      values: name -> [B], of any number type: a boolean counts as 0 or 1.
      mask: [B], False where the row is padding.
      required: names that must be among them, such as "loss" where it is minimised.

    Raises:
      InputError: as `per_example`.
    """
    values = per_example(values, mask, required=required)
    count = jnp.sum(mask, dtype=jnp.float32)
    return {name: Mean(jnp.sum(jnp.where(mask, value, 0), dtype=jnp.float32), count) for name, value in values.items()}


def per_example(values: Any, mask: Array, *, required: Sequence[str] = ()) -> Mapping[str, Array]:
    """Returns values that are what a loss has to return, name -> [B], as they are; looks at shapes alone.

    Another shape would be broadcast against the mask, and would give another mean on every batch size.

    Args:
      values: what was returned.
      mask: [B], which says how many examples there are.
      required: names that must be among them.

    Raises:
      InputError: the values are no mapping, one of them is not [B], or one that is required is missing.
    """
    if np.ndim(mask) != 1:
        raise InputError(f"A mask is [B], one value for each example; this one is {described(mask)}.")
    examples = len(mask)
    if not isinstance(values, Mapping):
        raise InputError(
            f"A loss returns its values by name, {{'loss': [{examples}], ...}}, one for each example; this one "
            f"returned {described(values)}. Return {{'loss': values}}."
        )
    for name, value in values.items():
        if getattr(value, "shape", None) != (examples,):
            raise InputError(
                f"The metric {name!r} is {described(value)}, where one value for each of the {examples} examples is "
                f"wanted, [{examples}]. {_advice(value, examples)}"
            )
    missing = [name for name in required if name not in values]
    if missing:
        raise InputError(
            f"{missing[0]!r} is missing: a loss returned only {', '.join(map(repr, values)) or 'nothing'}."
        )
    return values


def compute(parts: Sequence[Metrics]) -> dict[str, float | np.ndarray]:
    """Fetches the statistics of several batches, merges them and turns each into its number or array.

    One that has several numbers is stored under the prefix of their names: "" or "ema_".
    """
    parts = jax.device_get(list(parts))
    results = {}
    for name, first in parts[0].items():
        result = type(first).merge([part[name] for part in parts]).compute()
        several = result if isinstance(result, Mapping) else {"": result}
        results.update({name + inner: value for inner, value in several.items()})
    return results


def _advice(value: Any, examples: int) -> str:
    """What to do about a value that is not [B]."""
    if np.isscalar(value) or getattr(value, "shape", None) == ():
        return "Do not average over the batch: metrics.means does, under the mask."
    shape = getattr(value, "shape", None)
    if shape is None:
        return "Return an array."
    if shape[0] == examples:
        return f"Sum or average over its other axes: jnp.mean(values, axis={tuple(range(1, len(shape)))})."
    return "Its first axis has to be the batch's."
