"""Batches by step: the batch of step s is a pure function of (seed, s).

So a checkpoint needs no iterator state, a resumed run sees what the unbroken run saw, and the number of hosts and
devices may change between. A data set that fits lives on the devices, one uint8 array for all splits, and what travels
at a step is only which examples: the compiled step gathers and scales them (measured on a CPU: a third of the time of
cutting the batch out on the host). Of one that does not fit, a `Stream`, the decoded images travel too.
"""

import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.streaming import InOrder, Plan, Stream
from jaxrec.errors import InputError, described
from jaxrec.types import Batch, PyTree

Transform = Callable[[Batch], Batch]  # pure; part of the compiled step

PADDING = -1  # the id in the rows that fill up the last batch of a pass
OWN = ("id", "epoch", "seed", "mask")  # what a batch says of its rows itself
MOST = np.iinfo(np.int32).max  # rows of a batch, and examples: ids are int32


class Dataset(NamedTuple):
    """Examples as arrays, each of which holds all of them, and which of them belong to which split."""

    # {"image": [N, H, W, C] uint8 in [0, 255] or float32; "label": int32, [N] in [0, K) or [N, K] of 0 and 1, if there
    # are any; and what else there is of each image: "segmentation_mask": [N, H, W, ...], "boxes": [N, boxes, 4], ...}
    arrays: Mapping[str, np.ndarray | Stream]
    splits: Mapping[str, np.ndarray]  # {"train": ids, "validation": ids, "test": ids}, disjoint
    classes: tuple[str, ...] = ()  # K names; none where there are no labels
    skipped: tuple[str, ...] = ()  # a line for each file that is no readable picture and was left out

    @property
    def image(self) -> np.ndarray | Stream:
        """The images [N, H, W, C]: an array, or a stream, `image[ids]` of which is one."""
        return self.arrays["image"]

    @property
    def label(self) -> np.ndarray:
        """The labels [N], or [N, K] where an image may have several.

        Raises:
          InputError: there are none.
        """
        if "label" not in self.arrays:
            raise InputError("These data have no labels, and this needs them: add them, or leave out what needs them.")
        return self.arrays["label"]

    @property
    def one_label(self) -> np.ndarray | None:
        """The labels [N] where each image has one; None where there are none, or several for an image."""
        label = self.arrays.get("label")
        return label if label is not None and label.ndim == 1 else None


class Batches(NamedTuple):
    """The batches of one split, as the trainer wants them."""

    resident: PyTree  # host arrays that the trainer puts on every device once, for the whole run
    host: Callable[[int], PyTree]  # step -> what travels to the devices at this step, leading axis B
    fetch: Callable[[PyTree, PyTree], Batch]  # (resident, host) -> batch; pure, part of the compiled step
    batch_size: int  # B, over all devices
    examples: int  # in one pass
    per_pass: int  # batches in one pass: ceil(examples / batch_size)
    endless: bool | None = None  # True to train on, False for one pass; None where nobody says


def unchanged(batch: Batch) -> Batch:
    """The transform that does nothing."""
    return batch


def train_batches(
    arrays: Mapping[str, np.ndarray | Stream],
    *,
    batch_size: int,
    seed: int = 0,
    ids: np.ndarray | None = None,
    transform: Transform = unchanged,
    hosts: tuple[int, int] | None = None,
) -> Batches:
    """Endless shuffled batches in which each epoch holds every example exactly once.

    Epoch e is a permutation drawn from (seed, e), and the epochs follow each other without a seam: where the batch
    size does not divide the examples, one batch holds the end of an epoch and the beginning of the next. Nothing is
    dropped and no batch is short.

    Args:
      arrays: {"image": [N, ...], "label": [N], ...}, on the host, or read as they are needed, `Stream`. A batch holds
        all of them, and has "mask", "id", "epoch" and "seed" besides.
      batch_size: B, over all devices.
      seed: of the order, and of what the examples draw; from 0 to 2**32 - 1.
      ids: which of the N examples; all by default.
      transform: batch -> batch, run inside the compiled step. It finds each example's "id", "epoch" and "seed", [B].
      hosts: which process this is and of how many, each of which delivers its part of every batch; JAX's by default.

    Raises:
      InputError: the arrays do not fit each other, hold nothing or what is no number, or have a name that batches use.
    """
    arrays, ids = _check(arrays, ids, batch_size)
    if batch_size > len(ids):
        warnings.warn(
            f"batch_size = {batch_size:,} is more than the {len(ids):,} examples to train on: a batch holds an example "
            "several times. Make it smaller, unless you mean that.",
            stacklevel=2,
        )
    seeds = np.full(batch_size, seed, np.uint32)

    @functools.lru_cache(maxsize=2)
    def epoch_order(epoch: int) -> np.ndarray:
        return ids[np.random.default_rng((seed, epoch)).permutation(len(ids))]

    def plan(step: int) -> Mapping[str, np.ndarray]:
        start = step * batch_size
        rows, epochs = np.empty(batch_size, np.int32), np.empty(batch_size, np.int32)
        filled = 0
        while filled < batch_size:
            epoch, offset = divmod(start + filled, len(ids))
            part = epoch_order(epoch)[offset : offset + batch_size - filled]
            rows[filled : filled + len(part)] = part
            epochs[filled : filled + len(part)] = epoch
            filled += len(part)
        return {"id": rows, "epoch": epochs, "seed": seeds}

    return _batches(arrays, plan, transform, hosts, batch_size, len(ids), endless=True)


def eval_batches(
    arrays: Mapping[str, np.ndarray | Stream],
    *,
    batch_size: int,
    seed: int = 0,
    ids: np.ndarray | None = None,
    transform: Transform = unchanged,
    hosts: tuple[int, int] | None = None,
) -> Batches:
    """One pass over every example in order, the last batch filled up with rows whose mask is False.

    Arguments and errors as in `train_batches`; there is no "epoch".
    """
    arrays, ids = _check(arrays, ids, batch_size)
    seeds = np.full(batch_size, seed, np.uint32)

    def plan(step: int) -> Mapping[str, np.ndarray]:
        rows = np.full(batch_size, PADDING, np.int32)
        part = ids[step * batch_size : (step + 1) * batch_size]
        rows[: len(part)] = part
        return {"id": rows, "seed": seeds}

    return _batches(arrays, plan, transform, hosts, batch_size, len(ids), endless=False)


def _batches(
    arrays: Mapping[str, np.ndarray | Stream],
    plan: Plan,
    transform: Transform,
    hosts: tuple[int, int] | None,
    batch_size: int,
    examples: int,
    *,
    endless: bool,
) -> Batches:
    """The batches of a plan: of arrays the devices hold all, and are told which; streams are read for each step."""

    def own(step: int) -> Mapping[str, np.ndarray]:
        index, count = hosts or (jax.process_index(), jax.process_count())
        part = batch_size // count
        return {name: rows[index * part : (index + 1) * part] for name, rows in plan(step).items()}

    streams = {key: array for key, array in arrays.items() if isinstance(array, Stream)}
    resident = {key: array for key, array in arrays.items() if key not in streams}
    per_pass = math.ceil(examples / batch_size)
    host = InOrder(own, streams, None if endless else per_pass) if streams else own
    return Batches(resident, host, _gather(transform), batch_size, examples, per_pass, endless)


@functools.cache  # so that splits with one transform share one fetch, and with it one compiled evaluation step
def _gather(transform: Transform) -> Callable[[PyTree, PyTree], Batch]:
    """The `fetch` of arrays: picks the rows of a batch from those that lie on the devices, and transforms them."""

    def fetch(resident: PyTree, rows: PyTree) -> Batch:
        ids = rows["id"]  # [B]
        batch = jax.tree.map(lambda array: jnp.take(array, jnp.maximum(ids, 0), axis=0, mode="clip"), resident)
        return transform({**batch, **rows, "mask": ids != PADDING})

    return fetch


def _check(
    arrays: Mapping[str, np.ndarray | Stream], ids: np.ndarray | None, batch_size: int
) -> tuple[Mapping[str, np.ndarray | Stream], np.ndarray]:
    """The arrays and ids, if batches can be made of them."""
    if not 1 <= batch_size <= MOST:
        raise InputError(f"batch_size = {batch_size:,}: a batch has from 1 to {MOST:,} rows.")
    if taken := [name for name in OWN if name in arrays]:
        raise InputError(
            f"arrays[{taken[0]!r}]: a batch says {', '.join(OWN)} of its rows itself. Give the array another name, "
            f"such as 'own_{taken[0]}'."
        )
    if not all(isinstance(array, np.ndarray | jax.Array | Stream) for array in arrays.values()):
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.ndim == 0 or not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
            raise InputError(
                f"arrays[{name!r}] is {described(array)}: it needs a number or more for each example. Number what has "
                "names by np.unique(names, return_inverse=True)."
            )
        if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and not fits_int32(array):
            raise InputError(f"arrays[{name!r}] holds {array.dtype} beyond int32, which is what devices take.")
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) != 1:
        raise InputError(f"The arrays of a data set need one length, got {sizes}.")
    size = next(iter(sizes.values()))
    ids = np.arange(size) if ids is None else np.asarray(ids)
    if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in "iu"):
        raise InputError(f"ids is {described(ids)}: whole numbers [n] are wanted; of a mask [N], np.flatnonzero(mask).")
    if len(ids) and not 0 <= ids.min() <= ids.max() < size:
        raise InputError(f"ids reach from {ids.min()} to {ids.max()}; {size} examples allow 0 to {size - 1}.")
    if not len(ids):
        raise InputError("A split without examples: nothing to train or evaluate on. Make the split larger.")
    return arrays, ids.astype(np.int32)


def fits_int32(array: np.ndarray) -> bool:
    """Whether whole numbers lie in the range of int32."""
    bounds = np.iinfo(np.int32)
    return not array.size or bool(bounds.min <= array.min() and array.max() <= bounds.max)
