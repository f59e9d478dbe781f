"""Checkpoints: the newest and the best, written by orbax in the background, believed where every byte is as written.

The only module that knows orbax.
"""

import concurrent.futures
import contextlib
import errno
import json
import logging
import math
import os
import pathlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from jaxrec.engine import manifest
from jaxrec.errors import InputError, reason
from jaxrec.trees import leaf_types
from jaxrec.types import PyTree

PARTIAL = ".partial"  # ends the name of what is being written or deleted
LEFTOVERS = (f"*{PARTIAL}", f"*{ocp.path.atomicity.TMP_DIR_SUFFIX}*")  # what a kill leaves of these

# What a system says of a disk that takes nothing more; tensorstore says it with these words too.
REFUSALS = tuple(
    map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO))
)


def score(value: float | None, mode: Literal["max", "min"]) -> float:
    """A metric's value as a number of which the larger is the better; NaN and None are worse than any."""
    if value is None or math.isnan(value):
        return -math.inf
    return value if mode == "max" else -value


def check_room(directory: str | pathlib.Path, template: PyTree, copies: int) -> None:
    """Raises InputError where a disk has no room for checkpoints, or does not let this process write.

    Args:
      directory: of the checkpoints, there or not; what it holds already counts as free, since it will make way.
      template: what is saved, a tree of arrays or of jax.ShapeDtypeStruct.
      copies: how many lie there at once at most, the one that is being written among them.
    """
    directory = pathlib.Path(directory)
    place = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
        held = sum(manifest.sizes(directory).values()) if place == directory else 0
        free = shutil.disk_usage(place).free + held
    except OSError as error:
        raise InputError(f"{directory}: cannot write here ({error.strerror}). Name another folder.") from None
    needed = copies * _bytes(template)
    if free < needed:
        raise InputError(
            f"{directory}: {copies} checkpoints need {needed:,} bytes, and {free:,} are free. Make room, or name "
            "another folder."
        )


def _is_said_once(record: logging.LogRecord) -> bool:
    """Leaves out of the log what orbax raises besides: a full disk was a page of tracebacks, and one line is enough."""
    return record.exc_info is None or "orbax" not in record.pathname


def _bytes(tree: PyTree) -> int:
    """How many bytes the arrays of a tree hold."""
    return sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def _once(leaf: Any) -> Any:
    """What every device holds whole, as one has it: orbax would write a part of each copy, and compile each cut."""
    whole = isinstance(leaf, jax.Array) and leaf.is_fully_replicated and leaf.is_fully_addressable
    return leaf.addressable_data(0) if whole else leaf


class _Step(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """A step that is being written: it has its name once it is whole, its manifest in it, and not a moment before."""

    @classmethod
    def from_final(cls, final_path: Any, **options: Any) -> "_Step":
        """What orbax asks for where to write."""
        return super().from_final(final_path.with_name(final_path.name + PARTIAL), **options)

    async def finalize(self) -> None:
        """What orbax calls in its thread when all is written."""
        await super().finalize()
        partial = pathlib.Path(self.get_final())
        step = partial.name.removesuffix(PARTIAL)
        manifest.write(partial, int(step))
        partial.rename(partial.with_name(step))


class Checkpoints:
    """The checkpoints of one run: a directory in which the newest ones and the best one are kept.

    A step is believed where its manifest agrees with its files, byte for byte. Of a newer one a warning says what is
    wrong, and the next older one is taken. Nothing is deleted that was not believed, and no link is followed.

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
        self.directory = pathlib.Path(directory).absolute()
        self._keep, self._monitor, self._mode = keep, monitor, mode
        self._faults: dict[int, str | None] = {}  # of the steps that were looked at
        self._told_of: set[int] = set()  # damaged ones
        self._scores: dict[int, float] | None = None  # of the steps to keep or to delete
        self._writing: tuple[int, float, int] | None = None  # step, score and bytes
        self._deletions = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        logging.getLogger("absl").addFilter(_is_said_once)
        # Else threads wait five minutes for a folder that cannot be made, on a disk that is full or read-only.
        options = ocp.AsyncOptions(create_directories_asynchronously=False)
        self._checkpointer = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(
                default=ocp.StandardCheckpointHandler(),
                metrics=ocp.JsonCheckpointHandler(filename="metrics"),
                composite_options=ocp.CompositeOptions(async_options=options),
            ),
            async_options=options,
            temporary_path_class=_Step,
            # Processes meet by name when a step is written and when it is named, and two folders may save the same step
            # at once, as a run does that is stopped where it saves: they are not to take one meeting for the other.
            multiprocessing_options=ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=self.directory.name),
        )
        if not read_only:
            self._open()

    def latest(self) -> int | None:
        """Waits for the saves, and gives the newest step that is believed, or None."""
        self.wait()
        while steps := manifest.steps(self.directory):
            for step in reversed(steps):
                if self._believed(step):
                    return step
            if steps == manifest.steps(self.directory):  # else a run that goes on has put others in their place
                return None
        return None

    def best(self) -> int | None:
        """Waits for the saves, and gives the step with the best monitored metric (the later of equals), or None."""
        return _best(self._found())

    def steps(self) -> list[int]:
        """Waits for the saves, and gives the steps that are believed, oldest first."""
        self.wait()
        return [step for step in manifest.steps(self.directory) if self._believed(step)]

    def damaged(self) -> dict[int, str]:
        """What is wrong with each step that is not believed."""
        self.wait()
        faults = {step: self._fault(step) for step in manifest.steps(self.directory)}
        return {step: fault for step, fault in faults.items() if fault}

    def save(self, step: int, tree: PyTree, metrics: Mapping[str, Any] | None = None) -> None:
        """Copies `tree` off the devices, then writes it in the background. A step that is there is left as it is.

        Args:
          step: its number; what has its name and is not believed is set aside.
          tree: of arrays.
          metrics: what JSON holds: numbers, text, lists.

        Raises:
          InputError: the disk is full, or cannot be written, now or in the save before.
          Whatever else that save raised.
        """
        self.wait()
        if self._scores is None:
            self._scores = self._found()
        if step in self._scores:
            return
        metrics = dict(metrics or {})
        tree = jax.tree.map(_once, tree)
        with self._saving(step, _bytes(tree)):
            self._make_way(step)
            self._checkpointer.save(
                self._folder(step),
                args=ocp.args.Composite(default=ocp.args.StandardSave(tree), metrics=ocp.args.JsonSave(metrics)),
                force=True,  # replaces what an earlier try has left under the name of the unfinished
            )
        self._writing = step, self._score(metrics), _bytes(tree)

    def wait(self) -> None:
        """Waits until every save is on disk with its manifest; older steps that are not to be kept are none any more.

        Raises:
          InputError: the disk is full, or cannot be written.
          Whatever else went wrong in the background.
        """
        if self._writing is None:
            return
        (step, value, size), self._writing = self._writing, None
        with self._saving(step, size):
            self._checkpointer.wait_until_finished()
            self._faults.pop(step, None)
            self._scores[step] = value
            self._delete_old()

    def restore(self, template: PyTree, step: int) -> PyTree:
        """Reads a step into the shapes, types and shardings of `template`, a tree of jax.ShapeDtypeStruct.

        The shardings are those of now: the number of devices and the rule may differ from those of the save.

        Raises:
          InputError: the checkpoint holds other arrays, or is damaged.
        """
        stored, wanted = leaf_types(self._stored(step)), leaf_types(template)
        if stored != wanted:
            path = next(path for path in sorted({*stored, *wanted}) if stored.get(path) != wanted.get(path))
            raise InputError(
                f"The checkpoint of step {step} in {self.directory} does not fit this model: {path} is "
                f"{stored.get(path, 'missing')}, wanted is {wanted.get(path, 'nothing')}. Use the config it was "
                "trained with, or another workdir."
            )
        args = ocp.args.Composite(default=ocp.args.StandardRestore(template))
        with self._told(step):
            return self._checkpointer.restore(self._folder(step), args=args)["default"]

    def read(self, step: int) -> PyTree:
        """Reads a step as it was stored, as nested dictionaries of arrays on the first device.

        Raises:
          InputError: the checkpoint is damaged.
        """
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        stored = self._stored(step)
        return self.restore(
            jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), stored), step
        )

    def metrics(self, step: int) -> dict[str, Any]:
        """The metrics that were saved with a step.

        Raises:
          InputError: the checkpoint is damaged.
        """
        self._check(step)
        with self._told(step):
            return json.loads((self._folder(step) / "metrics" / "metrics").read_bytes())

    def close(self) -> None:
        """Waits until every save is on disk; raises what went wrong in the background."""
        try:
            self.wait()
        finally:
            self._checkpointer.close()
            self._deletions.shutdown()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, *exc: Any) -> None:
        if kind and jax.process_count() > 1:  # this process may be the only one that fails: nobody meets it to delete
            self._writing = None
        self.close()

    def _folder(self, step: int) -> pathlib.Path:
        return self.directory / str(step)

    def _score(self, metrics: Mapping[str, Any]) -> float:
        return score(metrics.get(self._monitor), self._mode)

    def _open(self) -> None:
        """Makes the directory, and takes away what was half written or half deleted when a process was killed."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.directory}: cannot make this folder ({error.strerror}).") from None
        if jax.process_index() == 0:
            for leftover in {path for pattern in LEFTOVERS for path in self.directory.glob(pattern)}:
                if leftover.is_dir() and not leftover.is_symlink():
                    shutil.rmtree(leftover)

    def _fault(self, step: int) -> str | None:
        """What is wrong with a step, found out once, or None."""
        if step not in self._faults:
            self._faults[step] = manifest.fault(self._folder(step), step)
        return self._faults[step]

    def _believed(self, step: int) -> bool:
        """Whether a step is as it was written; warns where it is not."""
        fault = self._fault(step)
        if fault and step not in self._told_of and os.path.lexists(self._folder(step)):  # else a run has deleted it
            self._told_of.add(step)
            warnings.warn(f"The checkpoint {self._folder(step)} is not used: {fault}.", stacklevel=1)
        return fault is None

    def _found(self) -> dict[int, float]:
        """The steps that are believed, and their scores."""
        return {step: self._score(self.metrics(step)) for step in self.steps()}

    def _check(self, step: int) -> None:
        """Waits for the saves, and raises InputError where a step is not believed."""
        self.wait()
        if fault := self._fault(step):
            others = [other for other in manifest.steps(self.directory) if self._fault(other) is None]
            raise InputError(
                f"The checkpoint of step {step} in {self.directory} cannot be used: {fault}. Those that can: "
                f"{', '.join(map(str, others)) or 'none'}."
            )

    def _stored(self, step: int) -> PyTree:
        """The shapes and types of what a step holds."""
        self._check(step)
        with self._told(step):
            return self._checkpointer.metadata(self._folder(step)).item_metadata["default"].tree

    @contextlib.contextmanager
    def _told(self, step: int) -> Iterator[None]:
        """Says in one line why what is whole cannot be read: another version of orbax may have written it."""
        try:
            yield
        except (ValueError, KeyError, OSError) as error:
            if not self._folder(step).exists():
                raise InputError(
                    f"The checkpoint of step {step} in {self.directory} has made way for a newer one: its run goes on. "
                    "Try again."
                ) from error
            raise InputError(
                f"The checkpoint of step {step} in {self.directory} cannot be read, though it is as it was written "
                f"({reason(error)[:200]}). Read it with the versions that environment.json names."
            ) from error

    @contextlib.contextmanager
    def _saving(self, step: int, size: int) -> Iterator[None]:
        """Says in one line that a disk takes nothing more."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            refusal = next((words for words in REFUSALS if words in str(error)), None)
            if refusal is None:
                raise
            raise InputError(
                f"{self._folder(step)}: this checkpoint cannot be written ({refusal}). It needs {size:,} bytes, and "
                f"{shutil.disk_usage(self.directory).free:,} are free. Those before are whole: make room, and the same "
                "command goes on from them."
            ) from error

    def _make_way(self, step: int) -> None:
        """Sets aside what has a step's name and is none that is believed."""
        folder = self._folder(step)
        if jax.process_index() == 0 and os.path.lexists(folder):
            names = (folder.with_name(f"{step}-damaged-{number}") for number in range(1, 10**6))
            folder.rename(next(name for name in names if not os.path.lexists(name)))
        self._faults.pop(step, None)

    def _delete_old(self) -> None:
        """Deletes what is neither among the newest nor the best; a kill meanwhile leaves no half of a step."""
        kept = {*sorted(self._scores)[-self._keep :], _best(self._scores) if self._monitor else None}
        for step in sorted(self._scores.keys() - kept):
            del self._scores[step]
            if jax.process_index() == 0:
                unwanted = self._folder(step).rename(self._folder(step).with_suffix(PARTIAL))
                self._deletions.submit(shutil.rmtree, unwanted)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoints that are kept")


def _best(scores: Mapping[int, float]) -> int | None:
    """The step of the highest score, the later of equals; None where no score is a number."""
    best = max(scores, key=lambda step: (scores[step], step), default=None)
    return None if best is None or scores[best] == -math.inf else best
