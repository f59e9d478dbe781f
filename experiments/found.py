"""What lies in a folder of pictures, for people: a table, and a picture of its pictures."""

import pathlib
from collections.abc import Sequence

import numpy as np

from jaxrec.data.listing import Files, Listing
from jaxrec.data.pictures import BadPictureError, decode_picture, shown
from jaxrec.data.survey import stored_sizes
from jaxrec.output.pictures import contact_sheet

COLUMNS, ROWS = 8, 12  # of the contact sheet
LINES = 40  # classes that the table names
HEADERS = 20_000  # files whose headers are looked at: more would take minutes, and say the same
THUMB = 64  # pixels high and wide, where a config says no size


def found(listing: Listing, sheet: pathlib.Path, size: tuple[int, int] | None) -> str:
    """Draws pictures of each class, the smallest and the largest, and says what there is.

    Args:
      listing: the folder's.
      sheet: where the picture goes.
      size: height and width of a picture there.

    Returns:
      Lines: counts by class and split, sizes as they are stored, files that are no pictures, files that are ignored.
    """
    files = listing.files
    looked = np.unique(np.linspace(0, len(files) - 1, min(len(files), HEADERS)).astype(int))
    sample = Files(files.root, tuple(files.names[index] for index in looked))
    sizes, why = stored_sizes(sample)
    readable = np.setdiff1d(np.arange(len(sample)), list(why))
    by_area = readable[np.argsort(sizes[readable].prod(1, dtype=np.int64), kind="stable")]
    _draw(sheet, listing, looked[by_area], size or (THUMB, THUMB))
    lines = [_table(listing), *([_sizes(sample, sizes, by_area, len(files))] if len(by_area) else [])]
    if why:
        lines.append(f"no readable pictures: {len(why):,}, such as {next(iter(why.values()))}")
    if listing.ignored:
        names = ", ".join(map(shown, listing.ignored[:4])) + ", ..." * (len(listing.ignored) > 4)
        lines.append(f"ignored: {len(listing.ignored):,}, {names}")
    return "\n".join(lines)


def _table(listing: Listing) -> str:
    """The pictures of each class and split."""
    columns = {split: len(ids) for split, ids in listing.splits.items()}
    rows = [("pictures", list(columns.values()))]
    if listing.label is not None:
        counts = [np.bincount(listing.label[ids], minlength=len(listing.classes)) for ids in listing.splits.values()]
        by_class = list(zip(map(shown, listing.classes), np.transpose(counts).tolist(), strict=True))
        more = [(f"... {len(by_class) - LINES:,} more classes", [])] if len(by_class) > LINES else []
        rows = [*by_class[:LINES], *more, (f"{len(by_class)} classes", list(columns.values()))]
    wide = max(len(name) for name, _ in rows)
    line = "{:<" + str(wide) + "}" + "{:>12}" * len(columns)
    filled = [
        (name, *(f"{count:,}" for count in counts), *[""] * (len(columns) - len(counts))) for name, counts in rows
    ]
    return "\n".join(line.format(*row).rstrip() for row in [("", *columns), *filled])


def _sizes(files: Files, sizes: np.ndarray, by_area: np.ndarray, count: int) -> str:
    """The smallest, the middle and the largest picture."""
    place = {"smallest": by_area[0], "median": by_area[len(by_area) // 2], "largest": by_area[-1]}
    words = [
        f"{word} {sizes[index][0]} x {sizes[index][1]}{'' if word == 'median' else f', {shown(files.names[index])}'}"
        for word, index in place.items()
    ]
    of = f" of {len(files):,} of {count:,} files" if len(files) < count else ""
    return f"height x width{of}: {'; '.join(words)}"


def _draw(sheet: pathlib.Path, listing: Listing, by_area: np.ndarray, size: tuple[int, int]) -> None:
    """A row of pictures for each class, and of the smallest and the largest."""
    rows = {"(smallest)": by_area, "(largest)": by_area[::-1]}
    if listing.label is None:
        everywhere = np.linspace(0, len(listing.files) - 1, min(len(listing.files), COLUMNS * ROWS)).astype(int)
        rows |= {f"{place + 1}, ...": everywhere[place:] for place in range(0, len(everywhere), COLUMNS)}
    else:
        for index, name in list(enumerate(listing.classes))[:ROWS]:
            rows[shown(name)] = np.flatnonzero(listing.label == index)
    contact_sheet(sheet, {title: _pictures(listing.files, ids, size) for title, ids in rows.items()})


def _pictures(files: Files, ids: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """The first readable ones of these, uint8 [COLUMNS, H, W, 3]; white where there are fewer."""
    images = np.full((COLUMNS, *size, 3), 255, np.uint8)
    column = 0
    for index in ids[: 4 * COLUMNS]:
        if column < COLUMNS:
            try:
                images[column] = decode_picture(files.path(index), channels=3, size=size).pixels
                column += 1
            except BadPictureError:
                continue  # the table says so
    return images
