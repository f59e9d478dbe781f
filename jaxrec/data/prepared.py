"""Sets that TensorFlow Datasets has prepared on disk: which there are, and their records, as arrays or one by one."""

import functools
import hashlib
import os
import pathlib
import re
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from jaxrec.data.cache import kept_arrays
from jaxrec.data.checks import Parts
from jaxrec.data.decoding import tensorflow
from jaxrec.data.pictures import decode_picture
from jaxrec.data.splits import SPLITS
from jaxrec.errors import InputError, did_you_mean
from jaxrec.machine.folders import cache_folder

BEFORE, BEHIND = 12, 4  # bytes of a TFRecord around its data: length and checksums
READ_AT_ONCE = 256  # records, where an index is made
AGAIN = "Prepare the set again."


class Prepared(NamedTuple):
    """A set on disk."""

    name: str  # as TFDS understands it
    builder: Any  # of TFDS
    splits: tuple[str, ...]  # of ours, those that it has

    @property
    def shape(self) -> tuple[int | None, int | None, int]:
        """Of an image; None for a side that differs."""
        return self.builder.info.features["image"].shape

    @property
    def classes(self) -> list[str]:
        """Their names."""
        return list(self.builder.info.features["label"].names)

    @property
    def sizes(self) -> dict[str, int]:
        """The examples of each split."""
        return {split: self.builder.info.splits[split].num_examples for split in self.splits}

    @property
    def by_number(self) -> bool:
        """Whether its files find a record by its number, as ArrayRecords do."""
        return self.builder.info.file_format.value == "array_record"

    @property
    def description(self) -> pathlib.Path:
        """The file that describes this preparation."""
        return pathlib.Path(self.builder.data_dir) / "dataset_info.json"


class Records:
    """The encoded images of a prepared set by number, split after split; see `jaxrec.data.streaming.Pictures`.

    Any record is read without those before it: an ArrayRecord knows where each lies, and of TFRecords an index is made
    once, in which labels stand too, and kept in the user's cache.
    """

    def __init__(self, prepared: Prepared):
        self._prepared = prepared
        self._files = {split: prepared.builder.info.splits[split].filepaths for split in prepared.splits}
        self._by_number = prepared.by_number
        index = {split: self._index(split) for split in prepared.splits}
        self._starts = np.cumsum([0, *(len(rows) for rows in index.values())])
        self._rows = np.concatenate(list(index.values()))  # [N, 4]: number of the file, offset, length, label
        self.label = self._rows[:, 3].astype(np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> bytes:
        """The encoded image of one record.

        Raises:
          InputError: its file cannot be read, or holds something else there.
        """
        split, number = self._place(index)
        file, offset, length, _ = self._rows[index]
        try:
            if self._by_number:
                record = self._array_records(split)[number]
            else:
                with open(self._files[split][file], "rb", buffering=0) as stream:
                    record = os.pread(stream.fileno(), length, offset)
            example = tensorflow().train.Example.FromString(record)
            return example.features.feature["image"].bytes_list.value[0]
        except Exception as error:  # of the system, of protobuf, of array_record: whatever a damaged file provokes
            why = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{self.name(index)} cannot be read ({why}). {AGAIN}") from None

    def name(self, index: int) -> str:
        """Set, split and number of a record."""
        split, number = self._place(index)
        return f"data.dataset = {self._prepared.name!r}: example {number} of {split}"

    def _place(self, index: int) -> tuple[str, int]:
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._prepared.splits[part], int(index - self._starts[part])

    def _array_records(self, split: str) -> Any:
        try:
            return _array_record_source(tuple(map(str, self._files[split])))
        except Exception as error:  # array_record's own
            raise damaged(self._prepared.name, split, error) from None

    def _index(self, split: str) -> np.ndarray:
        """A row for each record: number of its file, offset and length of its data there, label."""
        where = f"data.dataset = {self._prepared.name!r}"
        count = self._prepared.sizes[split]

        def made() -> dict[str, np.ndarray]:
            print(f"{where}: looks at the {count:,} records of {split} once, to find each later.", file=sys.stderr)
            found = self._array_rows(split) if self._by_number else self._tf_rows(split)
            rows = np.concatenate([np.zeros((0, 4), np.int64), *found])
            if len(rows) != count:
                raise InputError(f"{where}: {split} holds {len(rows):,} records instead of {count:,}. {AGAIN}")
            return {"rows": rows}

        return kept_arrays(cache_file(self._prepared.name, self._prepared.description, f"-{split}.npz"), made)["rows"]

    def _tf_rows(self, split: str) -> Iterator[np.ndarray]:
        tf = tensorflow()

        @tf.autograph.experimental.do_not_convert
        def lengths_and_labels(records):
            return tf.strings.length(records), _labels(records)

        for number, file in enumerate(self._files[split]):
            offset = 0
            records = tf.data.TFRecordDataset(str(file)).batch(READ_AT_ONCE).map(lengths_and_labels).prefetch(2)
            try:
                for lengths, labels in records.as_numpy_iterator():
                    ends = offset + np.cumsum(lengths + np.int64(BEFORE + BEHIND))
                    yield np.stack([np.full(len(ends), number), ends - BEHIND - lengths, lengths, labels], axis=1)
                    offset = ends[-1]
            except tf.errors.OpError as error:
                raise damaged(self._prepared.name, split, error, file) from None

    def _array_rows(self, split: str) -> Iterator[np.ndarray]:
        records, count = self._array_records(split), self._prepared.sizes[split]
        for first in range(0, count, READ_AT_ONCE):
            numbers = range(first, min(count, first + READ_AT_ONCE))
            try:
                found = records.__getitems__(list(numbers))
                labels = _labels(found).numpy()
            except Exception as error:  # array_record's own, or of TensorFlow
                raise damaged(self._prepared.name, split, error) from None
            yield np.stack([np.zeros(len(found), np.int64), numbers, [len(record) for record in found], labels], axis=1)


@functools.cache
def _array_record_source(files: tuple[str, ...]) -> Any:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    return ArrayRecordDataSource(files)


def _labels(records: Sequence[bytes]) -> Any:
    """The labels int64 [n] of serialised examples."""
    tf = tensorflow()
    return tf.io.parse_example(records, {"label": tf.io.FixedLenFeature([], tf.int64)})["label"]


def damaged(dataset: str, split: str, error: Exception, file: Any = None) -> InputError:
    """What is said of a set whose records cannot be read."""
    why = re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*", "", " ".join(getattr(error, "message", str(error)).split()))
    shard = f", {pathlib.Path(file).name}" if file else ""
    return InputError(f"data.dataset = {dataset!r}: {split}{shard} is damaged ({why[:200]}). {AGAIN}")


def newest(dataset: str, root: pathlib.Path) -> pathlib.Path | None:
    """The description of the newest version prepared under `root`, or None where none is."""
    versions = (path for path in (root / dataset).glob("*/dataset_info.json") if path.parent.name[0].isdigit())
    return max(versions, key=lambda path: [int(n) for n in path.parent.name.split(".") if n.isdigit()], default=None)


def cache_file(dataset: str, description: pathlib.Path, ending: str = ".npz") -> pathlib.Path:
    """Where what was read of a prepared set is kept.

    Its name holds a digest of the set's own description (version, splits, shard lengths), so another version or
    another preparation of the set never meets an old cache.
    """
    digest = hashlib.sha256(description.read_bytes()).hexdigest()[:12]
    return cache_folder() / "datasets" / f"{dataset.replace('/', '-')}-{description.parent.name}-{digest}{ending}"


def tensorflow_datasets() -> ModuleType:
    """TFDS, with TensorFlow kept off every accelerator.

    Raises:
      InputError: one of them is not installed.
    """
    tensorflow()
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(
            f"Reading a TFDS set needs tensorflow-datasets ({error}). Install it with `pip install "
            "tensorflow-datasets`, or use data.name = 'npz' or 'digits'."
        ) from None
    return tfds


def builder_of(dataset: str, root: pathlib.Path) -> Any:
    """The builder by which TFDS prepares and reads a set.

    Raises:
      InputError: there is no such set.
    """
    tfds, where = tensorflow_datasets(), f"data.dataset = {dataset!r}"
    try:
        return tfds.builder(dataset, data_dir=str(root))
    except tfds.core.registered.DatasetNotFoundError:
        if (root / dataset).exists():
            raise InputError(f"{where}: {root / dataset} is not whole, features.json is missing. {AGAIN}") from None
        names = tfds.list_builders(with_community_datasets=False)
        raise InputError(f"{where}: no such TFDS set.{did_you_mean(dataset, names)}") from None
    except Exception as error:  # of TFDS, of json, of protobuf: what is meant by a description that is none
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{where}: cannot be opened ({why[:200]}). If it is prepared in {root / dataset}, dataset_info.json or "
            f"features.json there is damaged. {AGAIN}"
        ) from None


def prepared(dataset: str, root: pathlib.Path) -> Prepared:
    """A set that is on disk.

    Raises:
      InputError: it is unknown, not prepared, or no set of labelled images.
    """
    builder = builder_of(dataset, root)
    if not builder.is_prepared():
        # Downloading belongs to a machine and a moment that the user picks: without a network TFDS tries for minutes.
        raise InputError(
            f"data.dataset = {dataset!r}: not prepared, looked in {builder.data_dir}. Where there is a network, run "
            f"`python launch.py prepare {dataset} --data_dir={root}`; elsewhere do so and copy {root / dataset} over."
        )
    features = builder.info.features
    if not {"image", "label"} <= set(features or {}):
        raise InputError(f"data.dataset = {dataset!r}: needs features image and label, has {sorted(features or {})}.")
    return Prepared(dataset, builder, tuple(name for name in SPLITS if name in builder.info.splits))


def prepare_set(dataset: str, root: pathlib.Path, manual_dir: pathlib.Path | None = None) -> str:
    """Downloads a set and prepares it under `root`, showing how far it is; what is there already is left alone.

    What was downloaded whole before is not downloaded again.

    Args:
      dataset: the TFDS name.
      root: where TFDS keeps its sets.
      manual_dir: where files lie that TFDS may not download itself.

    Returns:
      What was done, in a line.

    Raises:
      InputError: the set is unknown, or something is missing: a network, files, a package.
    """
    tfds, builder = tensorflow_datasets(), builder_of(dataset, root)
    if builder.is_prepared():
        return f"{dataset}: is there already, {builder.data_dir}"
    host = urllib.parse.urlsplit(builder.info.homepage).hostname
    if host and not urllib.request.getproxies():
        try:
            socket.getaddrinfo(host, 443)
        except Exception:  # without this, TFDS tries for minutes
            raise InputError(
                f"{dataset}: there is no network here, {host} has no address. Prepare it where there is one, and copy "
                f"{root / dataset} over."
            ) from None
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir and str(manual_dir))
        )
    except Exception as error:  # of the network, the disk, a package that this set wants, files that are not there
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{dataset}: not prepared, {why[:400]}. The same command goes on from here.") from None
    return f"{dataset}: prepared in {builder.data_dir}"


def read_arrays(found: Prepared) -> Parts:
    """Every split of a set whose images have one size as arrays, in the records' own order.

    Raises:
      InputError: a shard is missing or damaged, or a record holds something else; the line names it.
    """
    tf, parts = tensorflow(), {}
    for split, count in found.sizes.items():
        image, label = np.empty((count, *found.shape), np.uint8), np.empty(count, np.int32)
        records = found.builder.as_dataset(split=split, shuffle_files=False).batch(1024).prefetch(2)
        start = 0
        try:
            for record in records.as_numpy_iterator():
                stop = start + len(record["label"])
                image[start:stop], label[start:stop] = record["image"], record["label"]
                start = stop
        except tf.errors.OpError as error:
            _find_fault(found)
            raise damaged(found.name, split, error) from None
        parts[split] = {"image": image, "label": label}
    return parts


def _find_fault(found: Prepared) -> None:
    """Raises InputError that names the shard or the record of a set for which reading failed."""
    records = Records(found)
    for index in range(len(records)):
        name = records.name(index)
        shape = decode_picture(records.read(index), channels=found.shape[2], name=name).pixels.shape
        if shape != found.shape:
            raise InputError(f"{name} is an image {shape}, those of the set are {found.shape}. {AGAIN}")
