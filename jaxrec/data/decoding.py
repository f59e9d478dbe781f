"""The pipeline of tf.data that decodes pictures in parallel, a crop at random of which only the crop is decoded."""

import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np

from jaxrec.data.pictures import ORIENTATION
from jaxrec.errors import InputError

ASPECT = (3 / 4, 4 / 3)  # width by height of a crop
SCALES = (1, 2, 4, 8)  # by which a JPEG can be decoded smaller
BY_PILLOW, PNG_AS_IT_IS, PART_OF_JPEG = range(3)
JPEG, PNG, EXIF = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"Exif\0\0"
# What a PNG may hold besides pixels that changes them: a transparent colour, and which way is up in its three forms.
TURNED_OR_CLEAR = (b"tRNS", b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a JPEG behind which its size and channels stand
QUIET = 0.02  # seconds without a call, after which there are no more


class DecodingError(Exception):
    """A picture of the next batch cannot be decoded."""


@functools.cache  # asked for by each record
def tensorflow() -> ModuleType:
    """TensorFlow, kept off every accelerator before its first operation: it would take all of their memory.

    Raises:
      InputError: it is not installed.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") in (None, "1"):  # JAX sets 1, and warnings come with tracebacks
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # of no use to a reader of records, and announced each time
    try:
        import tensorflow as tf
    except ImportError as error:
        raise InputError(
            f"Reading this set needs tensorflow ({error}). Install it with `pip install tensorflow-cpu`, or use "
            "data.name = 'npz' or 'digits'."
        ) from None
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf


def pipeline(
    read: Callable[[int], tuple[list[bytes], np.ndarray, np.ndarray]],
    by_pillow: Callable[[bytes, int], np.ndarray],
    first: int,
    stop: int | None,
    rows: int,
    *,
    shape: tuple[int, int, int],
    random_area: float | None,
    calls: int,
    ahead: int,
) -> Iterator[np.ndarray]:
    """Yields the images uint8 [rows, H, W, C] of steps first, first + 1, ...

    Args:
      read: step -> encoded pictures, their numbers, and the numbers whose draws they take.
      by_pillow: (encoded picture, number) -> uint8 [h, w, C], of what has no faster way: the whole picture if it is
        to be cropped, else the image.
      first: the step to begin with.
      stop: the step to end before; None: there is no end.
      rows: in a batch.
      shape: of an image.
      random_area: the smallest share of a picture's area that a crop at random has; None: no crops.
      calls: how many pictures are decoded at a time; it changes no bit.
      ahead: batches that are ready before they are asked for.

    Raises:
      DecodingError: a picture of the next batch cannot be decoded.
    """
    tf = tensorflow()
    height, width, channels = shape
    ours = _Calls()

    def read_step(step):
        encoded, ids, roots = read(int(step))
        kinds = [_kind(data, shape, random_area is not None) for data in encoded]
        return np.array([*encoded, None], object)[:-1], np.array(kinds, np.int32), ids, roots

    @tf.autograph.experimental.do_not_convert
    def of_step(step):
        found = tf.numpy_function(ours.guarded(read_step), [step], (tf.string, tf.int32, tf.int64, tf.int64))
        for tensor in found:
            tensor.set_shape([rows])
        return found

    def crop_box(size, index, root):
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            size,
            tf.zeros([1, 0, 4]),
            seed=tf.stack([root, index]),
            min_object_covered=0.0,
            aspect_ratio_range=ASPECT,
            area_range=(random_area, 1.0),
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], extent[:2]], 0)

    def resized(image):
        much = tf.reduce_min(tf.shape(image)[:2] // (height, width)) >= 2  # smaller: what is between would be left out
        pixels = tf.cond(
            much,
            lambda: tf.image.resize(image, (height, width), antialias=True),
            lambda: tf.image.resize(image, (height, width)),
        )
        return tf.cast(pixels + 0.5, tf.uint8)

    def part_of_jpeg(encoded, index, root):
        box = crop_box(tf.image.extract_jpeg_shape(encoded), index, root)
        # As much smaller as is not smaller than wanted: a factor below two is left to resize, but of huge pictures.
        fit = tf.reduce_min(box[2:] // (height, width))
        branches = [
            lambda scale=scale: tf.image.decode_and_crop_jpeg(encoded, box // scale, channels, ratio=scale)
            for scale in SCALES
        ]
        return resized(tf.switch_case(sum(tf.cast(fit >= scale, tf.int32) for scale in SCALES[1:]), branches))

    def by_python(encoded, index, root):
        image = tf.numpy_function(ours.guarded(by_pillow), [encoded, index], tf.uint8)
        if random_area is None:
            return image
        image.set_shape([None, None, channels])
        top, left, tall, wide = tf.unstack(crop_box(tf.shape(image), index, root))
        return resized(image[top : top + tall, left : left + wide])

    @tf.autograph.experimental.do_not_convert
    def decode(encoded, kind, index, root):
        if random_area is None:
            fast, quick = PNG_AS_IT_IS, lambda: tf.io.decode_png(encoded, channels)
        else:
            fast, quick = PART_OF_JPEG, lambda: part_of_jpeg(encoded, index, root)
        return tf.ensure_shape(tf.cond(kind == fast, quick, lambda: by_python(encoded, index, root)), shape)

    steps = tf.data.Dataset.range(first, np.iinfo(np.int64).max if stop is None else stop)
    pictures = steps.map(of_step, num_parallel_calls=ahead, deterministic=True).unbatch()
    images = pictures.map(decode, num_parallel_calls=calls, deterministic=True).batch(rows, drop_remainder=True)
    batches = images.prefetch(ahead).as_numpy_iterator()
    try:
        while True:
            try:
                batch = next(batches, None)
            except tf.errors.OpError as error:
                if ours.raised:
                    raise ours.raised[0] from None
                raise DecodingError(error.message.partition("\n")[0]) from None
            if batch is None:
                return
            yield batch
    finally:
        ours.end()
        batches = None


class _Calls:
    """The calls of Python that a pipeline makes, from its own threads.

    TensorFlow frees a pipeline with Python's lock in hand and waits for its calls, each of which waits for that lock.
    So none may be under way then: `end` lets those that are come to their end, and new ones do nothing.
    """

    def __init__(self):
        self.raised: list[Exception] = []  # what tf.data makes of an error, nobody could read
        self._ended, self._begun, self._running, self._lock = False, 0, 0, threading.Lock()

    def guarded(self, function: Callable) -> Callable:
        """The same function, counted, its error kept."""

        def call(*arguments):
            with self._lock:
                self._begun, self._running = self._begun + 1, self._running + 1
            try:
                if self._ended:
                    raise DecodingError("the pipeline has ended")
                return function(*arguments)
            except Exception as error:
                self.raised.append(error)
                raise
            finally:
                with self._lock:
                    self._running -= 1

        return call

    def end(self) -> None:
        """Returns when nothing has been called for a moment: then every buffer is full, and nothing will be."""
        self._ended, begun = True, -1
        while self._running or begun != self._begun:
            begun = self._begun
            time.sleep(QUIET)


def _kind(encoded: bytes, shape: tuple[int, int, int], cropped: bool) -> int:
    """Which way decodes a picture fastest, to what Pillow makes of it."""
    if cropped:
        return PART_OF_JPEG if _is_plain_jpeg(encoded) else BY_PILLOW
    return PNG_AS_IT_IS if _is_plain_png(encoded, shape) else BY_PILLOW


def _is_plain_png(encoded: bytes, shape: tuple[int, int, int]) -> bool:
    """Whether a PNG of the wanted size holds bytes of grey, or of red, green and blue where three are wanted."""
    if not encoded.startswith(PNG):
        return False
    width, height = (int.from_bytes(encoded[begin : begin + 4]) for begin in (16, 20))
    grey = (0, 2) if shape[2] == 3 else (0,)
    plain = (height, width) == shape[:2] and encoded[24] == 8 and encoded[25] in grey
    return plain and not any(chunk in encoded for chunk in TURNED_OR_CLEAR)


def _is_plain_jpeg(encoded: bytes) -> bool:
    """Whether a picture is a JPEG of one or three channels that stands upright."""
    position = len(JPEG)
    while encoded.startswith(JPEG) and position + 10 < len(encoded):
        marker, length = encoded[position + 1], int.from_bytes(encoded[position + 2 : position + 4])
        if marker in FRAMES:
            return encoded[position + 9] in (1, 3)
        if marker == 0xE1 and _may_turn(encoded[position + 4 : position + 2 + length]):
            return False
        position += 2 + length
    return False


def _may_turn(segment: bytes) -> bool:
    """Whether metadata of a JPEG say, or are too damaged to say, that the picture does not stand upright."""
    from PIL import Image

    if not segment.startswith(EXIF):
        return b"tiff:Orientation" in segment  # XMP
    exif = Image.Exif()
    try:
        exif.load(segment)
        return exif.get(ORIENTATION, 1) != 1
    except Exception:  # Pillow's readers raise whatever they stumble over
        return True
