"""Checkpoints: the newest and the best, written by orbax in the background. The only module that knows orbax."""

import contextlib
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from jaxrec.errors import InputError
from jaxrec.trees import leaf_types
from jaxrec.types import PyTree


def score(value: float | None, mode: Literal["max", "min"]) -> float:
    """A metric's value as a number of which the larger is the better; NaN and None are worse than any."""
    if value is None or math.isnan(value):
        return -math.inf
    return value if mode == "max" else -value


def _once(leaf: Any) -> Any:
    """What every device holds whole, as one has it: orbax would write a part of each copy, and compile each cut."""
    whole = isinstance(leaf, jax.Array) and leaf.is_fully_replicated and leaf.is_fully_addressable
    return leaf.addressable_data(0) if whole else leaf


class Checkpoints:
    """The checkpoints of one run: a directory in which the newest ones and the best one are kept.

    Args:
      directory: where they lie; made if it is not there.
      keep: how many of the newest to keep.
      monitor: the metric that says which one is best, such as "validation/accuracy"; None keeps the newest alone.
      mode: whether a larger or a smaller value of it is better. NaN is never best.
      read_only: for the folder of another run, which may be going on: nothing in it is made, tidied up or deleted.
    """

    def __init__(
        self,
        directory: str | pathlib.Path,
        *,
        keep: int = 1,
        monitor: str | None = None,
        mode: Literal["max", "min"] = "max",
        read_only: bool = False,
    ):
        self._monitor, self._mode = monitor, mode
        self._manager = ocp.CheckpointManager(
            pathlib.Path(directory).absolute(),
            item_handlers=ocp.StandardCheckpointHandler(),
            options=ocp.CheckpointManagerOptions(
                create=not read_only,
                cleanup_tmp_directories=not read_only,  # what a killed save left behind
                best_fn=self._score,  # without it orbax stores no metrics
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                    [
                        checkpoint_managers.LatestN(n=keep),
                        checkpoint_managers.BestN(
                            get_metric_fn=self._score, n=1 if monitor else 0, keep_checkpoints_without_metrics=False
                        ),
                    ]
                ),
            ),
        )

    def _score(self, metrics: Mapping[str, float] | None) -> float:
        return score((metrics or {}).get(self._monitor), self._mode)

    def latest(self) -> int | None:
        """The newest step saved, or None."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Waits for the saves, and gives the step with the best monitored metric (the later of equals), or None."""
        self._manager.wait_until_finished()
        scores = {step: self._score(self._manager.metrics(step)) for step in self._manager.all_steps()}
        best = max(scores, key=lambda step: (scores[step], step), default=None)
        return None if best is None or scores[best] == -math.inf else best

    def save(self, step: int, tree: PyTree, metrics: Mapping[str, float] | None = None) -> None:
        """Copies `tree` off the devices, then writes it in the background.

        Raises:
          Whatever an earlier save in the background raised.
        """
        self._manager.save(step, args=ocp.args.StandardSave(jax.tree.map(_once, tree)), metrics=dict(metrics or {}))

    def restore(self, template: PyTree, step: int) -> PyTree:
        """Reads a step into the shapes, types and shardings of `template`, a tree of jax.ShapeDtypeStruct.

        The shardings are those of now: the number of devices and the rule may differ from those of the save.

        Raises:
          InputError: the checkpoint holds other arrays, or is damaged.
        """
        self._manager.wait_until_finished()
        with self._told(step):
            stored, wanted = leaf_types(self._manager.item_metadata(step).tree), leaf_types(template)
            if stored == wanted:
                return self._manager.restore(step, args=ocp.args.StandardRestore(template))
        path = next(path for path in sorted({*stored, *wanted}) if stored.get(path) != wanted.get(path))
        raise InputError(
            f"The checkpoint of step {step} in {self._manager.directory} does not fit this model: {path} is "
            f"{stored.get(path, 'missing')}, wanted is {wanted.get(path, 'nothing')}. Use the config it was trained "
            "with, or another workdir."
        )

    def read(self, step: int) -> PyTree:
        """Reads a step as it was stored, as nested dictionaries of arrays on the first device.

        Raises:
          InputError: the checkpoint is damaged.
        """
        self._manager.wait_until_finished()
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        with self._told(step):
            stored = self._manager.item_metadata(step).tree
        return self.restore(
            jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), stored), step
        )

    @contextlib.contextmanager
    def _told(self, step: int) -> Iterator[None]:
        """Says in one line what orbax finds wrong with a step."""
        try:
            yield
        except (ValueError, KeyError, OSError) as error:
            older = ", ".join(str(other) for other in self._manager.all_steps() if other != step) or "none"
            raise InputError(
                f"The checkpoint of step {step} in {self._manager.directory} cannot be read, so it is damaged "
                f"({' '.join(str(error).split())[:200]}). Move it away to go on from an older one; there are: {older}."
            ) from error

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics that were saved with a step."""
        return dict(self._manager.metrics(step) or {})

    def close(self) -> None:
        """Waits until every save is on disk; raises what went wrong in the background."""
        self._manager.wait_until_finished()
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()
