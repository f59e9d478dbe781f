"""What a recogniser's run answers: probabilities for pictures of any size, from the run's folder alone.

The training data are not read, and no Python of the folder is run: its network and its way of looking at images are
built from config.json and data.json by the functions that training uses.
"""

import collections
import io
import itertools
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.restored import logits_of, several_labels
from experiments.stored import notes_of, read_json, recogniser_of, state_of
from jaxrec.data.pictures import read_picture, shown
from jaxrec.data.streaming import parallel_calls
from jaxrec.errors import InputError, described
from jaxrec.metrics.calibration import softmax
from jaxrec.sharding import data_parallel
from jaxrec.tasks.average import averaged
from jaxrec.types import Array

BATCH = 64  # images at once
AT_ONCE = 8  # images that a thread reads before it is given others
AHEAD = 2  # batches read ahead of the network, or more if threads would have nothing to do
CALIBRATION = "calibration.json"

NO_SCALE = (
    "{name}: this run has learned from floats outside of [0, 1], and what scale bytes have there, it does not know. "
    "Give float arrays of its shape."
)

Image = np.ndarray | str | os.PathLike  # pixels, or the path of a picture


class Read(NamedTuple):
    """A batch of pictures, read: those that could be, and why the others could not."""

    names: list[str]
    pixels: list[np.ndarray]  # of each name
    bad: list[str]  # a line for each of the others


class Predictor(NamedTuple):
    """Answers for pictures; made by `load`, called as `predictor(images)`.

    Attributes:
      classes: the K names.
      shape: (H, W, C) of the images that the network was trained on.
      several: whether an image may have several labels; then each class has a probability of its own.
      unit_range: whether those images were in [0, 1], as bytes are once they are scaled.
      crop: what is kept of a picture that is resized, as in `jaxrec.data.pictures.read_picture`.
      step: whose state answers.
      temperature: that makes the probabilities believable, of a run that `launch.py calibrate` has looked at.
      batch_size: images at once; fewer are filled up.
      network: pixels [batch_size, H, W, C], uint8 or float32 -> logits [batch_size, K], on the devices.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    several: bool
    unit_range: bool
    crop: float
    step: int
    temperature: float | None
    batch_size: int
    network: Callable[[np.ndarray], Array]

    def __call__(self, images: Image | Sequence[Image], *, calibrated: bool = False) -> np.ndarray:
        """The probability of each class, float32 [N, K].

        Args:
          images: pixels, uint8 in [0, 255] or floats as the run has learned from them, mostly in [0, 1], [N, H, W, C]
            or a single [H, W, C], or without an axis C where there is one channel; the path of a picture; or a
            sequence of single ones, each of any size. What has the run's own shape keeps its pixels. Anything else is
            resized and converted as the run's pictures are, its floats rounded to bytes.
          calibrated: divide the logits by `temperature` first.

        Raises:
          InputError: an image cannot be read or meant, the run was not calibrated, or has diverged.
        """
        if calibrated and self.temperature is None:
            raise InputError("This run was not calibrated: python launch.py calibrate --run=... does it.")
        return self.probabilities(self.logits(images), self.temperature if calibrated else 1.0)

    def logits(self, images: Image | Sequence[Image]) -> np.ndarray:
        """What the network answers before it is probabilities, float32 [N, K]. Arguments and errors as in a call."""
        parts = []
        named = ((_name(image, index), image) for index, image in enumerate(_one_by_one(images, self.shape)))
        for read in self.read(named):
            if read.bad:
                raise InputError(read.bad[0])
            parts.append(self.of_batch(read.pixels))
        return np.concatenate(parts) if parts else np.zeros((0, len(self.classes)), np.float32)

    def probabilities(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Probabilities float32 [N, K] of logits divided by a temperature."""
        if not self.several:
            return softmax(logits, temperature).astype(np.float32)
        return (1 / (1 + np.exp(-logits.astype(np.float64) / temperature))).astype(np.float32)

    def read(self, images: Iterable[tuple[str, Image]]) -> Iterator[Read]:
        """Reads named images by batches, in their order and in threads, ahead of whoever asks."""

        def of_part(part: Sequence[tuple[str, Image]]) -> Read:
            read = Read([], [], [])
            for name, image in part:
                try:
                    read.pixels.append(self.pixels(image, name))
                    read.names.append(name)
                except InputError as error:
                    read.bad.append(str(error))
            return read

        at_once = math.gcd(AT_ONCE, self.batch_size)
        parts, threads = _by(at_once, images), parallel_calls()
        with ThreadPoolExecutor(threads) as pool:
            most = AHEAD * max(self.batch_size // at_once, threads)
            ahead = collections.deque(pool.submit(of_part, part) for part in itertools.islice(parts, most))
            while ahead:
                batch = Read([], [], [])
                while ahead and len(batch.names) + len(batch.bad) < self.batch_size:
                    for whole, own in zip(batch, ahead.popleft().result(), strict=True):
                        whole += own
                    ahead.extend(pool.submit(of_part, part) for part in itertools.islice(parts, 1))
                yield batch

    def pixels(self, image: Image, name: str) -> np.ndarray:
        """One image as the network takes it, uint8 or float32 [H, W, C].

        Args:
          image: as in a call.
          name: what messages call it.

        Raises:
          InputError: it cannot be read or meant.
        """
        name = shown(name)
        if isinstance(image, str | os.PathLike):
            return self._picture(pathlib.Path(image), name)
        image = np.asarray(image)
        image = image[..., None] if image.ndim == 2 else image
        if image.dtype != np.uint8:
            image = self._floats(image, name)
        elif not self.unit_range:
            raise InputError(NO_SCALE.format(name=name))
        if image.shape == self.shape:
            return image
        if image.ndim != 3 or 0 in image.shape or image.shape[-1] not in (1, 3, 4):
            raise InputError(
                f"{name} is {described(image)}: {list(self.shape)} is what the run has learned from, and [H, W], or "
                "[H, W, C] with 1, 3 or 4 channels, what can be made so."
            )
        return self._picture(_as_file(image), name)

    def of_batch(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """The logits float32 [n, K] of at most `batch_size` images as `pixels` makes them.

        Raises:
          InputError: they are not finite.
        """
        if len({image.dtype for image in pixels}) > 1:
            pixels = [image if image.dtype != np.uint8 else image.astype(np.float32) / 255 for image in pixels]
        batch = np.zeros((self.batch_size, *self.shape), pixels[0].dtype)
        batch[: len(pixels)] = pixels
        logits = np.asarray(self.network(batch))[: len(pixels)]
        if not np.isfinite(logits).all():
            raise InputError("This run's answers are not finite: it has diverged. Take another one.")
        return logits

    def _floats(self, image: np.ndarray, name: str) -> np.ndarray:
        """Float pixels, once they are as those that the run has learned from."""
        if image.dtype.kind != "f":
            raise InputError(f"{name} is {described(image)}: pixels are uint8 in [0, 255], or floats. Convert them.")
        if not np.isfinite(image).all():
            raise InputError(f"{name} holds NaN or infinite values.")
        if self.unit_range and image.size and not 0 <= image.min() <= image.max() <= 1:
            raise InputError(
                f"{name} reaches from {image.min():.4g} to {image.max():.4g}: for this run floats are in [0, 1]. "
                "Divide them by the largest that there can be, or give uint8 in [0, 255]."
            )
        return image.astype(np.float32)

    def _picture(self, file: pathlib.Path | bytes, name: str) -> np.ndarray:
        """The pixels of a picture file, or of its content."""
        height, width, channels = self.shape
        if channels not in (1, 3):
            raise InputError(f"{name}: a picture has 1 channel or 3, and this run's images {channels}. Give arrays.")
        if not self.unit_range:
            raise InputError(NO_SCALE.format(name=name))
        return read_picture(file, channels=channels, size=(height, width), crop=self.crop, name=name)


def load(run: str | os.PathLike, *, batch_size: int = BATCH, what: str = "run") -> Predictor:
    """A recogniser's run, ready to answer: the state that it has chosen, or its newest while it goes on.

    Where the run keeps a moving average, that answers; where it has `test_views`, the mean over them.

    Args:
      run: the run's folder.
      batch_size: images at once; rounded up to a multiple of the devices. 1 answers single images fastest.
      what: names the folder, as the user knows it, in what this raises.

    Raises:
      InputError: there is no run of `experiment = "classify"`, no checkpoint yet, the run names a package that
        `--allow` does not, or batch_size is no whole number, 1 or more.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size = {batch_size!r}: allowed is a whole number, 1 or more.")
    folder = pathlib.Path(run)
    state, step = state_of(folder, what)
    config, notes = recogniser_of(folder, what), notes_of(folder, what, "shape", "classes")
    parallel = data_parallel()
    state = parallel.everywhere(averaged(state))
    logits = jax.jit(logits_of(config, notes), compiler_options=parallel.repeatable)

    return Predictor(
        classes=tuple(notes["classes"]),
        shape=tuple(notes["shape"]),
        several=several_labels(config, notes),
        unit_range=notes.get("unit_range", True),
        crop=notes.get("crop", 1.0),
        step=step,
        temperature=_temperature(folder, step),
        batch_size=-(-batch_size // parallel.mesh.size) * parallel.mesh.size,
        network=lambda image: logits(state, parallel.split(image)),
    )


def _temperature(folder: pathlib.Path, step: int) -> float | None:
    """The temperature of a run that was calibrated at this step."""
    file = folder / CALIBRATION
    found = read_json(file) if file.exists() else {}
    return found["temperature"] if found.get("step") == step else None  # else it has learned on since


def _one_by_one(images: Any, shape: tuple[int, int, int]) -> Iterator[Image]:
    """The images of what a predictor is called on."""
    if isinstance(images, str | os.PathLike):
        return iter([images])
    if hasattr(images, "ndim"):
        images = np.asarray(images)
        grey = (*images.shape[1:], 1) == shape  # [N, H, W], also where W is 3
        whole = images.shape == shape or images.shape[-1:] in ((1,), (3,), (4,))
        one = images.ndim == 2 or (images.ndim == 3 and whole and not grey)
        if not 2 <= images.ndim <= 4:
            raise InputError(f"images is {described(images)}: allowed is [N, H, W, C], [H, W, C], paths, or a list.")
        return iter(images[None] if one else images)
    if not isinstance(images, Iterable) or isinstance(images, Mapping):
        raise InputError(f"images is {described(images)}: allowed is [N, H, W, C], [H, W, C], paths, or a list.")
    return iter(images)


def _name(image: Image, index: int) -> str:
    """What messages call an image."""
    return str(image) if isinstance(image, str | os.PathLike) else f"image {index}"


def _by(size: int, items: Iterable) -> Iterator[list]:
    """The items in lists of a size, the last one shorter."""
    items = iter(items)
    return iter(lambda: list(itertools.islice(items, size)), [])


def _as_file(image: np.ndarray) -> bytes:
    """Pixels [H, W, 1, 3 or 4], bytes or in [0, 1], as a picture's content, so that arrays are resized as files are."""
    from PIL import Image

    image = image if image.dtype == np.uint8 else np.round(image * 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(content, "PNG", compress_level=1)
    return content.getvalue()
