"""The records of a prepared TFDS set, one by one by their number or all as arrays; what is damaged is named."""

import functools
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxrec.data.cache import kept_arrays
from jaxrec.data.checks import Parts
from jaxrec.data.decoding import tensorflow
from jaxrec.data.pictures import decode_picture
from jaxrec.data.prepared import AGAIN, Prepared, cache_file, tensorflow_datasets
from jaxrec.errors import InputError, reason

BEFORE, BEHIND = 12, 4  # bytes of a TFRecord around its data: length and checksums
READ_AT_ONCE = 256  # records, where an index is made


class Records:
    """The encoded images of a prepared set by number, split after split; see `jaxrec.data.streaming.Pictures`.

    Any record is read without those before it: an ArrayRecord knows where each lies, and of TFRecords an index is made
    once, in which labels stand too, and kept in the user's cache.
    """

    def __init__(self, prepared: Prepared):
        self._prepared = prepared
        splits = prepared.builder.info.splits
        self._files = {split: tuple(map(str, splits[split].filepaths)) for split in prepared.splits}
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
            raise InputError(f"{self.name(index)} cannot be read ({reason(error)}). {AGAIN}") from None

    def name(self, index: int) -> str:
        """Set, split and number of a record."""
        split, number = self._place(index)
        return f"data.dataset = {self._prepared.name!r}: example {number} of {split}"

    def sizes(self) -> np.ndarray:
        """The lengths of all records in bytes, and behind them those of the files that they lie in, int64.

        Raises:
          InputError: a file is gone.
        """
        try:
            files = [os.stat(file).st_size for files in self._files.values() for file in files]
        except OSError as error:
            raise InputError(f"{error.filename}: cannot be read ({error.strerror}). {AGAIN}") from None
        return np.concatenate([self._rows[:, 2], files])

    def _place(self, index: int) -> tuple[str, int]:
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._prepared.splits[part], int(index - self._starts[part])

    def _array_records(self, split: str) -> Any:
        try:
            return _array_record_source(self._files[split])
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

        index = cache_file(self._prepared.name, self._prepared.description, f"-{split}.index.npz")
        return kept_arrays(index, made)["rows"]

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


def read_arrays(found: Prepared) -> Parts:
    """Every split of a set whose images have one size as arrays, in the records' own order.

    Raises:
      InputError: a shard is missing or damaged, or a record holds something else; the line names it.
    """
    tf, parts = tensorflow(), {}
    in_order = tensorflow_datasets().ReadConfig(interleave_cycle_length=1)  # shard after shard, as `Records` has them
    for split, count in found.sizes.items():
        image, label = np.empty((count, *found.shape), np.uint8), np.empty(count, np.int32)
        records = found.builder.as_dataset(split=split, shuffle_files=False, read_config=in_order)
        records = records.batch(1024).prefetch(2)
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
