"""Pictures inside a page: data URIs, as many and as large as fit."""

import base64
import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from experiments.heat_maps import rgb_of
from jaxrec.data.pictures import BadPictureError, decode_picture

QUALITY = 90  # of WebP
LARGEST = 96  # pixels of the longer side of an example
WIDTHS = (1100, 800, 560, 400)  # pixels of a whole picture: the first at which all of them fit
REDRAWN = ("curves", "confusion_")  # how the names of pictures begin that the page has in another form
SHOWS = {  # how the names of pictures begin, and what these show
    "reconstructions": "images above what it makes of them",
    "samples": "images that it makes",
    "codes": "where its codes lie, and their classes",
    "walk": "images that it makes along the way from code to code",
    "manifold": "images that it makes all over its plane of codes",
    "filters": "what its first layer has learned",
    "calibration": "how far its probabilities can be believed",
    "explain": "by what it answers",
    "corrupt": "what corruption costs it",
}
MOMENTS = 4  # of the pictures that are drawn again and again during a run


class Picture(NamedTuple):
    """A picture of a run's folder, and what it shows."""

    title: str
    shows: str  # or "" where nobody knows
    source: str  # a data URI
    width: int
    height: int


def examples(images: np.ndarray) -> list[str]:
    """Images [N, H, W, C], floats, as data URIs; larger ones are scaled down."""
    if not len(images):
        return []
    pixels = (255 * rgb_of(images)).round().clip(0, 255).astype(np.uint8)
    found = []
    for image in map(Image.fromarray, pixels):
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
        found.append(_encoded(image))
    return found


def of_folder(folder: pathlib.Path, most: int) -> tuple[list[Picture], list[str]]:
    """The pictures that a run and commands on it have drawn, in `most` bytes together.

    Returns:
      The pictures, and lines about those that were left out.
    """
    opened: list[tuple[str, Image.Image]] = []
    lines = []
    for file in _files(folder):
        try:
            opened.append((str(file.relative_to(folder).with_suffix("")), _opened(file)))
        except BadPictureError as error:
            lines.append(f"{file}: {error}.")
    for width in WIDTHS:
        found = [_scaled(name, image, width) for name, image in opened]
        if sum(len(picture.source) for picture in found) <= most:
            return found, lines
    kept, size = [], 0
    for picture in found:
        size += len(picture.source)
        if size <= most:
            kept.append(picture)
    lines.append(f"{len(found) - len(kept)} of {len(found)} pictures of {folder} are too many for a page; see there.")
    return kept, lines


def _files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    yield from (file for file in sorted(folder.glob("*.png")) if not file.name.startswith(REDRAWN))
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        yield from _evenly(sorted(inner.glob("*.png")))


def _evenly(files: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """`MOMENTS` of them, the first and the last included."""
    places = np.unique(np.linspace(0, len(files) - 1, min(len(files), MOMENTS)).round().astype(int))
    return [files[place] for place in places]


def _opened(file: pathlib.Path) -> Image.Image:
    pixels = decode_picture(file, channels=3).pixels
    return Image.fromarray(pixels)


def _scaled(name: str, image: Image.Image, width: int) -> Picture:
    scaled = image.copy()
    scaled.thumbnail((width, 4 * width), Image.Resampling.LANCZOS)
    shows = next((words for start, words in SHOWS.items() if name.startswith(start)), "")
    return Picture(name.replace("_", " ").replace("/", ", "), shows, _encoded(scaled), *scaled.size)


def _encoded(image: Image.Image) -> str:
    held = io.BytesIO()
    image.save(held, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(held.getvalue()).decode()}"
