"""Pictures of images: grids, and a contact sheet with a row for each treatment and a column for each example."""

import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxrec.errors import InputError

CELL = 96  # pixels that an image is enlarged to, about: by a whole factor, so that its own pixels can be counted
GAP = 8  # pixels between two images of a contact sheet
LINE = 2  # likewise of a grid
DPI = 100  # of a figure whose pixels are counted: letters of 10 points are 14 pixels high
INK, FRAME = "0.2", 0.8  # of letters and of the line around each image
LETTERS = {"color": INK, "parse_math": False}  # a class's name may hold dollars


def grid(
    path: pathlib.Path,
    images: np.ndarray,
    columns: int | None = None,
    *,
    line: int = LINE,
    shade: float = FRAME,
) -> None:
    """Draws images side by side into a PNG, row by row, enlarged to half the size that a contact sheet has.

    Args:
      path: of the PNG.
      images: [N, H, W, C] in [0, 1] (what lies outside is cut off) or uint8. Three channels are red, green and blue;
        of others the mean is drawn in grey.
      columns: in a row; as many as make the grid a square by default.
      line: pixels between two images.
      shade: of what is between them, from 0, black, to 1.

    Raises:
      InputError: there is nothing to draw.
    """
    from matplotlib.image import imsave  # takes half a second to import

    if np.ndim(images) != 4 or not len(images):
        raise InputError(f"A grid needs images [N, H, W, C], N at least 1, got {np.shape(images)}.")
    count, height, width, _ = np.shape(images)
    columns = columns or math.ceil(math.sqrt(count))
    factor = max(1, round(CELL / 2 / max(height, width)))
    height, width = height * factor + line, width * factor + line
    canvas = np.full((line + math.ceil(count / columns) * height, line + columns * width, 3), shade)
    for index, image in enumerate(_drawable(images)):
        row, column = divmod(index, columns)
        top, left = line + row * height, line + column * width
        enlarged = image.repeat(factor, axis=0).repeat(factor, axis=1)
        canvas[top : top + height - line, left : left + width - line] = enlarged
    imsave(path, canvas)


def contact_sheet(path: pathlib.Path, rows: Mapping[str, np.ndarray], titles: Sequence[str] = ()) -> None:
    """Draws rows of images into a PNG, the first row set off from the others.

    Args:
      path: of the PNG.
      rows: title -> images [N, H, W, C] in [0, 1] (what lies outside is cut off) or uint8. Three channels are red,
        green and blue; of others the mean is drawn in grey.
      titles: of the N columns.

    Raises:
      InputError: there is nothing to draw, or the rows or titles are not equally many.
    """
    from matplotlib.figure import Figure  # takes half a second to import

    shapes = {title: np.shape(images) for title, images in rows.items()}
    if not shapes or len(set(shapes.values())) > 1 or len(next(iter(shapes.values()))) != 4:
        raise InputError(f"A contact sheet needs rows of one shape [N, H, W, C], got {shapes}.")
    count, height, width, _ = next(iter(shapes.values()))
    if titles and len(titles) != count:
        raise InputError(f"A contact sheet of {count} columns needs as many titles, got {len(titles)}.")
    factor = max(1, round(CELL / max(height, width)))
    height, width = height * factor + 2, width * factor + 2  # with the line around it
    left = GAP * 2 + 8 * max(map(len, rows))  # pixels, for letters of 10 points
    top = 30 if titles else GAP * 2
    # The first row is set off by another gap.
    tops = [top + row * (height + GAP) + (GAP if row else 0) for row in range(len(rows))]
    lefts = [left + column * (width + GAP) for column in range(count)]
    canvas = np.ones((tops[-1] + height + GAP * 2, lefts[-1] + width + GAP * 2, 3))
    for y, images in zip(tops, rows.values(), strict=True):
        for x, image in zip(lefts, _drawable(images), strict=True):
            canvas[y : y + height, x : x + width] = FRAME
            enlarged = image.repeat(factor, axis=0).repeat(factor, axis=1)
            canvas[y + 1 : y + height - 1, x + 1 : x + width - 1] = enlarged
    full_height, full_width, _ = canvas.shape
    figure = Figure(figsize=(full_width / DPI, full_height / DPI), dpi=DPI)
    figure.figimage(canvas, origin="upper")
    letters = {**LETTERS, "fontsize": 10}
    for y, title in zip(tops, rows, strict=True):
        place = ((left - GAP) / full_width, 1 - (y + height / 2) / full_height)
        figure.text(*place, title, ha="right", va="center", **letters)
    for x, title in zip(lefts, titles, strict=False):
        place = ((x + width / 2) / full_width, 1 - (top - GAP) / full_height)
        figure.text(*place, _short(title, (width + GAP) // 8), ha="center", va="baseline", **letters)
    figure.savefig(path, dpi=DPI, pil_kwargs={"optimize": True})


def captioned(path: pathlib.Path, images: np.ndarray, captions: Sequence[str], *, columns: int = 8) -> None:
    """Draws images row by row into a PNG, each under a caption of its own.

    Args:
      path: of the PNG.
      images: [N, H, W, C], as in `contact_sheet`.
      captions: of each; lines that are too long are cut off.
      columns: in a row.

    Raises:
      InputError: there is nothing to draw, or not a caption for each.
    """
    from matplotlib.figure import Figure

    if np.ndim(images) != 4 or not len(images) or len(captions) != len(images):
        raise InputError(f"Images [N, H, W, C] need a caption each, got {np.shape(images)} and {len(captions)}.")
    count, height, width, _ = images.shape
    columns, factor = min(columns, count), max(1, round(CELL / max(height, width)))
    height, width, lines = height * factor, width * factor, max(caption.count("\n") + 1 for caption in captions)
    across, down = max(width, CELL) + 3 * GAP, height + 2 * GAP + 16 * lines  # of one image with its caption
    full_width, full_height = columns * across + GAP, math.ceil(count / columns) * down + GAP
    canvas = np.ones((full_height, full_width, 3))
    figure = Figure(figsize=(full_width / DPI, full_height / DPI), dpi=DPI)
    for index, (image, caption) in enumerate(zip(_drawable(images), captions, strict=True)):
        row, column = divmod(index, columns)
        top, centre = GAP + row * down + 16 * lines, GAP + column * across + (across - GAP) // 2
        left = centre - width // 2
        canvas[top - 1 : top + height + 1, left - 1 : left + width + 1] = FRAME
        canvas[top : top + height, left : left + width] = image.repeat(factor, axis=0).repeat(factor, axis=1)
        short = "\n".join(_short(line, (across - GAP) // 7) for line in caption.split("\n"))
        place = (centre / full_width, 1 - (top - GAP // 2) / full_height)
        figure.text(*place, short, ha="center", va="bottom", fontsize=9, **LETTERS)
    figure.figimage(canvas, origin="upper")
    figure.savefig(path, dpi=DPI, pil_kwargs={"optimize": True})


def filter_grid(path: pathlib.Path, filters: np.ndarray, *, columns: int = 16, rows: int = 8) -> None:
    """Draws learned filters as a grid, those of the largest weights first, each by its own largest weight.

    Of one channel blue is below 0, white 0 and red above; of others grey is 0, and a channel's light its weight.

    Args:
      path: of the PNG.
      filters: [N, h, w, C]; where there are more than columns * rows, the first ones in this order are drawn.
      columns: of the grid, where there are so many filters.
      rows: at most.
    """
    from matplotlib import colormaps

    order = np.argsort(-np.square(filters).sum((1, 2, 3)), kind="stable")[: columns * rows]
    chosen = filters[order]
    largest = np.maximum(np.abs(chosen).max((1, 2, 3), keepdims=True), 1e-12)
    scaled = (1 + chosen / largest) / 2
    shown = colormaps["RdBu_r"](scaled[..., 0])[..., :3] if scaled.shape[-1] == 1 else scaled
    grid(path, shown, min(columns, len(shown)), line=2 * LINE, shade=float(INK))  # they are light where they are 0


def _drawable(images: np.ndarray) -> np.ndarray:
    """Red, green and blue [N, H, W, 3] in [0, 1]."""
    images = np.asarray(images)
    images = images / 255 if images.dtype == np.uint8 else np.clip(images, 0, 1)
    return images if images.shape[-1] == 3 else images.mean(-1, keepdims=True).repeat(3, axis=-1)


def _short(title: str, letters: int) -> str:
    return title if len(title) <= letters else f"{title[: letters - 1]}…"
