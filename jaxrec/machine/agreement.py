"""Whether the processes of a job are of one kind: what should be the same in all is compared before the first step."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxrec.errors import InputError
from jaxrec.trees import differences, paths
from jaxrec.types import PyTree


def check_agreement(facts: Mapping[str, Any]) -> None:
    """Raises InputError in every process, naming one that differs from process 0 and in what, where any does.

    All processes call it at the same place. With one process it does nothing.

    Args:
      facts: what should be the same, by name; plain values.
    """
    if jax.process_count() == 1:
        return
    told = _exchanged(json.dumps(facts, sort_keys=True, default=str))
    ours, found = json.loads(told[0]), []
    for process_id, theirs in enumerate(map(json.loads, told)):
        found += [
            f"process {process_id} has {name} = {value}, process 0 has {own}"
            for name, own, value in differences(ours, theirs)
        ]
    if found:
        more = f", and {len(found) - 1} more" if found[1:] else ""
        raise InputError(f"The processes of this job differ: {found[0]}{more}. Start all in the same way.")


def all_are_here(place: str) -> None:
    """Waits until all processes have come to a place of the program, which has this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)


def check_same_state(state: PyTree) -> None:
    """Raises InputError, likewise, where the arrays that every process holds whole are not equal to the bit.

    Of an array that is split each process has a part of its own, and there is nothing to compare.
    """
    if jax.process_count() > 1:
        check_agreement({"state": _digests(state)})


def _digests(tree: PyTree) -> dict[str, str]:
    return {
        path: hashlib.sha256(np.asarray(leaf.addressable_data(0)).tobytes()).hexdigest()[:16]
        for path, leaf in paths(tree).items()
        if leaf.is_fully_replicated
    }


def _exchanged(text: str) -> list[str]:
    """The texts of all processes, in their order."""
    encoded = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(encoded)))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(encoded)] = encoded
    rows = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]
