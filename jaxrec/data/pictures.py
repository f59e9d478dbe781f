"""One picture file becomes one array.

What it is, its content says, not its extension: PNG, JPEG, BMP, GIF, WebP or TIFF. A file that cannot be meant is a
`BadPictureError` that names it; Pillow's own warnings and limits never reach the user.
"""

import contextlib
import io
import pathlib
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxrec.errors import InputError, reason

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
MOST_PIXELS = 200_000_000  # of a picture, by its header: the largest cameras of phones have as many
LARGE = 25_000_000  # pixels; more are decoded one picture at a time, so that threads do not add up to all memory
SHARPER = 2.0  # how many times larger than asked for a picture is decoded before the antialiased resize
ORIENTATION = 0x0112  # the tag of EXIF
LYING = (5, 6, 7, 8)  # its values where height and width change places

_GLOBAL, _ONE_LARGE = threading.Lock(), threading.Lock()
_PILLOW = re.compile(r"PIL\.")  # its modules, whose warnings are not shown
_SAID = threading.Event()  # that of animated pictures the first frame is read: once is enough


class BadPictureError(InputError):
    """A file that is no readable picture; the line names the file and says why."""


def shown(path: pathlib.Path | str) -> str:
    """A path for a message of one line, whatever its name holds: line ends, bytes that are no text."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


class Picture(NamedTuple):
    """What a file holds."""

    pixels: np.ndarray  # uint8 [H, W, channels]
    stored: tuple[int, int]  # (height, width) before it was resized, upright
    animated: bool  # whether there are more frames, or pages, than the first, which this is


def read_picture(
    file: pathlib.Path | bytes,
    *,
    channels: int,
    size: tuple[int, int] | None = None,
    crop: float = 1.0,
    name: str | None = None,
) -> np.ndarray:
    """The pixels of a picture, uint8 [H, W, channels], upright.

    Grey, palette, CMYK and 1-bit pictures are converted; 16 bits are scaled to 8. What is transparent shows white, as
    on a page: which colour lies under it, the file leaves to chance. Of an animated picture it is the first frame, and
    that is said once.

    Args:
      file: its path, or its content.
      channels: 1 for grey (ITU-R 601 luma), 3 for red, green and blue.
      size: (height, width) of the result. The picture is scaled so that it covers `size / crop`, and the centre is
        kept, in one antialiased bilinear resize. None leaves it as it is, and so does the size that it has.
      crop: the share of the scaled picture's shorter side that is kept.
      name: what messages call it; the path by default.

    Raises:
      BadPictureError: it is missing, empty, cut short, no picture, or larger than `MOST_PIXELS`.
      InputError: `channels` or `crop` cannot be meant, or the disk or the memory of this machine failed.
    """
    picture = decode_picture(file, channels=channels, size=size, crop=crop, name=name)
    if picture.animated and not _SAID.is_set():
        _SAID.set()
        warnings.warn("Of animated pictures the first frame is read, of several pages the first.", stacklevel=2)
    return picture.pixels


def decode_picture(
    file: pathlib.Path | bytes,
    *,
    channels: int,
    size: tuple[int, int] | None = None,
    crop: float = 1.0,
    name: str | None = None,
) -> Picture:
    """As `read_picture`, without its warning: what there is to say of a picture is told beside its pixels."""
    if channels not in (1, 3) or not 0 < crop <= 1:
        raise InputError(f"channels = {channels}, crop = {crop}: allowed are 1 or 3, and a number above 0, up to 1.")
    name = name or (shown(file) if isinstance(file, pathlib.Path) else "a picture")
    with _named(name), contextlib.closing(_stream(file, name)) as stream:
        picture, animated = _opened(stream, name)
        width, height = picture.size
        with _ONE_LARGE if width * height > LARGE else contextlib.nullcontext():
            return _decoded(picture, animated, channels, size, crop)


def stored_size(file: pathlib.Path | bytes, *, name: str | None = None) -> tuple[int, int]:
    """The (height, width) that the header of a picture says, upright; its pixels are not decoded.

    Raises:
      BadPictureError: as `read_picture`, as far as the header shows it.
    """
    name = name or (shown(file) if isinstance(file, pathlib.Path) else "a picture")
    with _named(name), contextlib.closing(_stream(file, name)) as stream:
        picture, _ = _opened(stream, name)
        width, height = picture.size
        turned = picture.format != "TIFF" and "exif" in picture.info and _orientation(picture) in LYING
        return (width, height) if turned else (height, width)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Turns whatever a damaged file provokes into a line that names it."""
    try:
        yield
    except InputError:
        raise
    except MemoryError:  # not the file's fault, nor is a disk's error: another day it can be read
        raise InputError(f"{name}: this machine's memory is too small for it. Make the picture smaller.") from None
    except Exception as error:  # Pillow's readers raise whatever they stumble over: OSError, SyntaxError, struct.error
        if not isinstance(error, OSError) or error.errno is None:
            raise BadPictureError(
                f"{name}: cannot be decoded ({reason(error)}). Replace the file or take it out."
            ) from None
        kind = BadPictureError if isinstance(error, FileNotFoundError | PermissionError) else InputError
        raise kind(f"{name}: cannot be read ({error.strerror}).") from None


def _stream(file: pathlib.Path | bytes, name: str) -> io.BufferedIOBase:
    """The content of a file, opened."""
    if isinstance(file, bytes):
        stream, length = io.BytesIO(file), len(file)
    else:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise BadPictureError(f"{name}: {what}, and a picture is a file.")
        stream, length = file.open("rb"), status.st_size
    if not length:
        stream.close()
        raise BadPictureError(f"{name}: an empty file, 0 bytes. Replace the file or take it out.")
    return stream


@contextlib.contextmanager
def _pillow_alone() -> Iterator[None]:
    """Pillow without its warnings and its limit of pixels, for which ours stands.

    Both belong to the whole process, so one thread at a time: headers are read here, and most pixels decoded outside.
    Pillow's warnings stay off. `warnings.catch_warnings` would take those of other threads with it, and where two of
    them overlap it restores the filters of neither.
    """
    from PIL import Image

    with _GLOBAL:
        if not warnings.filters or warnings.filters[0][3] != _PILLOW:
            warnings.filterwarnings("ignore", module=_PILLOW.pattern)
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _opened(stream: io.BufferedIOBase, name: str) -> tuple["Image.Image", bool]:
    """The picture with its header read and looked at, and whether it is animated."""
    from PIL import Image, UnidentifiedImageError

    with _pillow_alone():
        try:
            picture = Image.open(stream, formats=FORMATS)
        except UnidentifiedImageError:
            raise BadPictureError(
                f"{name}: no picture, or one whose header is damaged. Allowed are {', '.join(FORMATS)}."
            ) from None
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise BadPictureError(
                f"{name}: {width:,} x {height:,} pixels by its header; {MOST_PIXELS:,} are allowed. Make it smaller."
            )
        # A phone's JPEG may hold further pictures behind the one that everybody sees: format MPO, not animated.
        return picture, picture.format != "MPO" and getattr(picture, "is_animated", False)


def _decoded(
    picture: "Image.Image", animated: bool, channels: int, size: tuple[int, int] | None, crop: float
) -> Picture:
    """The pixels of an opened picture."""
    from PIL import Image

    whole = picture.size  # (width, height)
    if size is not None and picture.format in ("JPEG", "MPO"):
        # Decoded at 1/2, 1/4 or 1/8, as far as enough pixels are left.
        scale = _scale(whole, size if _orientation(picture) in LYING else size[::-1], crop) * SHARPER
        if scale < 1:
            picture.draft(picture.mode, tuple(max(1, round(side * scale)) for side in whole))
    # A TIFF turns itself upright as it is decoded, and warns of damaged tags and of its size then.
    with _pillow_alone() if picture.format == "TIFF" else contextlib.nullcontext():
        picture.load()
    turn = _orientation(picture)
    picture = _eight_bits(picture)
    target = whole if size is None else size if turn in LYING else size[::-1]
    if (picture.size, crop) != (target, 1) and size is not None:
        scale = _scale(picture.size, target, crop)
        (width, height), (kept_width, kept_height) = picture.size, (side / scale for side in target)
        left, top = max(0.0, (width - kept_width) / 2), max(0.0, (height - kept_height) / 2)
        box = (left, top, min(width, left + kept_width), min(height, top + kept_height))
        picture = picture.resize(target, Image.Resampling.BILINEAR, box=box, reducing_gap=SHARPER)
    if turn != 1:
        picture = picture.transpose(_turns()[turn])
    if picture.mode in ("LA", "RGBA"):
        page = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(page, picture.convert("RGBA"))
    pixels = np.array(picture.convert("L" if channels == 1 else "RGB"))
    stored = whole if turn in LYING else whole[::-1]
    return Picture(pixels.reshape(*pixels.shape[:2], channels), stored, animated)


def _scale(whole: tuple[int, int], target: tuple[int, int], crop: float) -> float:
    """By how much a picture is scaled so that it covers `target / crop`."""
    return max(wanted / crop / side for wanted, side in zip(target, whole, strict=True))


def _eight_bits(picture: "Image.Image") -> "Image.Image":
    """The same picture in a mode that can be resized: L, LA, RGB or RGBA."""
    from PIL import Image

    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        shades = ((np.arange(2**16) + 128) // 257).astype(np.uint8)  # 65,535 = 255 * 257
        return Image.fromarray(np.array([shades[row] for row in np.asarray(picture)]))  # by rows, for memory's sake
    if picture.mode in ("I", "F"):
        raise ValueError("32 bits for a pixel, whose range nobody knows: save it with 8 or 16")
    if picture.mode in ("L", "LA", "RGB", "RGBA") and "transparency" not in picture.info:
        return picture
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _orientation(picture: "Image.Image") -> int:
    """How EXIF says the picture is to be turned, 1 to 8; where EXIF is damaged it is upright."""
    with _pillow_alone():
        try:
            turn = picture.getexif().get(ORIENTATION, 1)
        except Exception:  # as many kinds as in `_named`, and no reason to refuse the pixels
            return 1
    return turn if turn in _turns() else 1


def _turns() -> dict[int, "Image.Transpose"]:
    from PIL.Image import Transpose

    return {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
