"""Images that stay in their files: read and decoded ahead of the step, for sets that fit no memory.

Which example is in which batch is a plan of ours, a pure function of (seed, step); tf.data executes it. So a run goes
on at any step without reading what came before, and any number of parallel calls gives the same bits.
"""

import atexit
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any, Protocol

import numpy as np

from jaxrec.data import decoding
from jaxrec.data.pictures import MOST_PIXELS, decode_picture
from jaxrec.errors import InputError
from jaxrec.machine.cores import cores

Plan = Callable[[int], Mapping[str, np.ndarray]]  # step -> {"id": [B], "seed": [B], and in training "epoch": [B]}

AHEAD = 2  # batches that are decoded before a step asks for them


class Pictures(Protocol):
    """Encoded pictures by number."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """The bytes of one picture."""

    def name(self, index: int) -> str:
        """What messages call it."""

    def sizes(self) -> np.ndarray:
        """The sizes in bytes of all that they lie in, known without reading it; other pictures have others."""


class Stream:
    """Images uint8 [N, H, W, C] that are decoded when they are asked for; `stream[ids]` is an array of them.

    In an evaluation, and by `stream[ids]`, an image is what `read_picture` makes of it. In training, where
    `random_area` says so, it is a part of the picture at random (Szegedy et al., 2015), drawn from the seed, the epoch
    and the number of the example alone; of a JPEG only that part is decoded.

    Args:
      pictures: where the bytes come from.
      size: height and width of the images.
      channels: 1 or 3.
      crop: the share of a picture that an evaluation sees, its centre; see `read_picture`.
      random_area: the smallest share of a picture's area that training sees, 0.08 in that paper; None: training sees
        what an evaluation sees.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(
        self,
        pictures: Pictures,
        *,
        size: tuple[int, int],
        channels: int,
        crop: float = 1.0,
        random_area: float | None = None,
    ):
        self.shape = (len(pictures), *size, channels)
        self.pictures, self.crop, self.random_area = pictures, crop, random_area

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, which: slice | np.ndarray) -> np.ndarray:
        ids = np.arange(len(self))[which]
        images = np.empty((len(ids), *self.shape[1:]), np.uint8)

        def read(place: int) -> None:
            images[place] = self.whole(self.pictures.read(ids[place]), ids[place])

        with futures.ThreadPoolExecutor(parallel_calls()) as pool:
            list(pool.map(read, range(len(ids))))
        return images

    def whole(self, encoded: bytes, index: int) -> np.ndarray:
        """What an evaluation sees of a picture, uint8 [H, W, C]; zeros for a row that fills up a batch."""
        if index < 0:
            return np.zeros(self.shape[1:], np.uint8)
        return self._decoded(encoded, index, size=self.shape[1:3], crop=self.crop)

    def _decoded(self, encoded: bytes, index: int, **kept: Any) -> np.ndarray:
        name = self.pictures.name(index)
        return decode_picture(encoded, channels=self.shape[3], name=name, **kept).pixels

    def batches(self, plan: Plan, first: int, stop: int | None) -> Iterator[np.ndarray]:
        """Yields the images uint8 [B, H, W, C] of steps first, first + 1, ...

        Args:
          plan: which examples a step holds.
          first: the step to begin with.
          stop: the step to end before; None: there is no end.

        Raises:
          InputError: a picture cannot be read; it is named.
        """

        def read(step: int) -> tuple[list[bytes], np.ndarray, np.ndarray]:
            rows = plan(step)
            ids = rows["id"].astype(np.int64)
            roots = (rows["seed"].astype(np.int64) << 31) + rows.get("epoch", 0)
            return [self.pictures.read(index) if index >= 0 else b"" for index in ids], ids, roots

        cropped = self.random_area is not None and "epoch" in plan(first)
        batches = decoding.pipeline(
            read,
            self._decoded if cropped else self.whole,
            first,
            stop,
            len(plan(first)["id"]),
            shape=self.shape[1:],
            random_area=self.random_area if cropped else None,
            calls=parallel_calls(),
            ahead=AHEAD,
        )
        atexit.register(batches.close)  # left open, its threads would wait for Python to end, which waits for them
        try:
            for step in itertools.count(first):
                try:
                    batch = next(batches, None)
                except decoding.DecodingError as error:
                    self._find_fault(*read(step)[:2], error)
                if batch is None:
                    return
                yield batch
        finally:
            atexit.unregister(batches.close)

    def _find_fault(self, encoded: list[bytes], ids: np.ndarray, error: Exception) -> None:
        """Raises InputError that names the picture of these for which decoding failed."""
        for data, index in zip(encoded, ids, strict=True):
            self.whole(data, index)
        names = ", ".join(self.pictures.name(index) for index in ids[:3])
        raise InputError(f"One of {names}, ... cannot be decoded: {error}. Mend it, or leave it out.") from None


def check_keys(size: Any, crop: float, random_area: float | None, stream: bool | None) -> None:
    """Raises InputError for arguments of a source that do not fit each other, named as a config names them."""
    if random_area is not None and (stream is False or not size):
        raise InputError(
            f"data.random_area = {random_area} crops as a stream is decoded: it needs data.size, and data.stream not "
            "False. Of a set in memory, config.augment has random_zoom."
        )
    pixels = math.prod(size) if isinstance(size, tuple | list) else (size or 0) ** 2
    if pixels > MOST_PIXELS:
        raise InputError(
            f"data.size = {size} makes images of {pixels:,} pixels; {MOST_PIXELS:,} are allowed. Lower it."
        )
    if crop == 0 or (crop < 1 and not size):
        raise InputError(f"data.crop = {crop} is a share above 0 of what data.size says: set both, or leave it 1.")


def parallel_calls() -> int:
    """How many pictures are decoded at a time: one for each core that this process may use."""
    return cores()


class InOrder:
    """step -> the rows of a plan with what is streamed: quick where steps are asked for in order, right in any.

    Args:
      plan: the rows.
      streams: what is read besides, by its key in the batch.
      steps: how many there are; None: there is no end.
    """

    def __init__(self, plan: Plan, streams: Mapping[str, Stream], steps: int | None):
        self.plan, self.streams, self._steps = plan, streams, steps
        self._step, self._rows = -1, {}  # what was asked for last
        self._open: dict[str, Iterator[np.ndarray]] = {}

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """The rows of a step."""
        if step == self._step:
            return self._rows
        if step != self._step + 1 or not self._open:
            self._open = {key: each.batches(self.plan, step, self._steps) for key, each in self.streams.items()}
        opened, self._open = self._open, {}  # an error leaves nothing in order
        rows = {**self.plan(step), **{key: next(batches) for key, batches in opened.items()}}
        self._step, self._rows, self._open = step, rows, opened
        return rows
