"""Grids and contact sheets, read back pixel by pixel."""

import numpy as np
import pytest
from matplotlib import image as files

from jaxrec.errors import InputError
from jaxrec.metrics.probes import draw_map
from jaxrec.output.pictures import captioned, contact_sheet, filter_grid, grid
from jaxrec.output.report import write_classes


def count_of(pixels: np.ndarray, color: tuple[float, ...]) -> int:
    return (np.abs(pixels[..., :3] - color).max(-1) < 1 / 255).sum()


@pytest.mark.parametrize(("side", "factor"), [(8, 12), (32, 3), (200, 1)])
def test_each_pixel_is_enlarged_by_a_whole_factor(tmp_path, side, factor):
    """Red pixels come out as squares of red, of grey images as grey."""
    rows = {"stored": np.zeros((3, side, side, 3), np.float32), "epoch 0": np.zeros((3, side, side, 3), np.float32)}
    rows["stored"][1, 2, 5] = (1, 0, 0)
    rows["epoch 0"][2, side - 1, 0] = (0, 1, 0)
    contact_sheet(tmp_path / "sheet.png", rows, ["cat", "dog", "a very long name of a class that is cut"])
    pixels = files.imread(tmp_path / "sheet.png")
    assert count_of(pixels, (1, 0, 0)) == count_of(pixels, (0, 1, 0)) == factor**2
    (top, bottom), (left, right) = (
        (found.min(), found.max()) for found in np.nonzero(np.abs(pixels[..., :3] - (1, 0, 0)).max(-1) < 1 / 255)
    )
    assert (bottom - top + 1, right - left + 1) == (factor, factor)
    below = np.nonzero(np.abs(pixels[..., :3] - (0, 1, 0)).max(-1) < 1 / 255)
    assert below[0].min() > bottom
    assert below[1].min() > right


def test_bytes_grey_images_and_values_outside(tmp_path):
    grey = np.full((1, 4, 6, 1), 51, np.uint8)
    contact_sheet(tmp_path / "bytes.png", {"stored": grey})
    pixels = files.imread(tmp_path / "bytes.png")
    assert count_of(pixels, (0.2, 0.2, 0.2)) >= 64 * 96
    outside = np.concatenate([np.full((1, 4, 6, 3), -0.5), np.full((1, 4, 6, 3), (2.0, 0, 0))])
    contact_sheet(tmp_path / "outside.png", {"stored": outside})
    pixels = files.imread(tmp_path / "outside.png")
    assert count_of(pixels, (0, 0, 0)) >= 64 * 96
    assert count_of(pixels, (1, 0, 0)) == 64 * 96


def test_titles_are_written(tmp_path):
    """Letters leave ink above the first image and left of it; without titles there is none above."""
    images = np.ones((2, 8, 8, 1))
    contact_sheet(tmp_path / "with.png", {"stored": images}, ["cat", "dog"])
    contact_sheet(tmp_path / "without.png", {"stored": images})
    with_titles, without = (
        files.imread(tmp_path / name)[..., :3].min(-1) < 0.5 for name in ("with.png", "without.png")
    )
    assert with_titles[:28].any()
    assert not without[:16].any()
    assert without[:, :60].any()
    assert not without[:, 70:].any()


def test_a_sheet_of_noise_is_small_enough_to_keep(tmp_path):
    rng = np.random.default_rng(0)
    rows = {str(row): rng.integers(0, 256, (8, 32, 32, 3), np.uint8) for row in range(6)}
    contact_sheet(tmp_path / "sheet.png", rows, list("abcdefgh"))
    assert (tmp_path / "sheet.png").stat().st_size < 300_000


def test_filters_are_shown_by_sign_the_largest_first(tmp_path):
    """The first is of the largest weights. Each reaches the ends of the colours by itself; zero is white."""
    filters = np.zeros((3, 4, 4, 1), np.float32)
    filters[0, 0, 0], filters[1, 1, 1], filters[2, 2, 2] = 0.1, -7.0, 2.0
    filter_grid(tmp_path / "filters.png", filters, columns=2, rows=1)
    pixels = files.imread(tmp_path / "filters.png")[..., :3]
    assert pixels.shape == (4 + 52, 4 + 2 * 52, 3)  # two of the three, 12 pixels for each of theirs
    first, second = pixels[4:52, 4:52], pixels[4:52, 56:104]
    assert first[12 + 6, 12 + 6, 2] > 2 * first[12 + 6, 12 + 6, 0]  # below zero: blue
    assert second[24 + 6, 24 + 6, 0] > 2 * second[24 + 6, 24 + 6, 2]  # above zero: red
    assert (first[36:] > 0.95).all()


def test_filters_of_colours_are_grey_at_zero(tmp_path):
    filters = np.zeros((1, 4, 4, 3), np.float32)
    filters[0, 0, 0] = (3.0, 0, -3.0)
    filter_grid(tmp_path / "filters.png", filters)
    pixels = files.imread(tmp_path / "filters.png")[4:52, 4:52, :3]
    np.testing.assert_allclose(pixels[6, 6], (1, 0.5, 0), atol=0.01)
    np.testing.assert_allclose(pixels[30, 30], 0.5, atol=0.01)


@pytest.mark.parametrize(
    ("rows", "titles", "message"),
    [
        ({}, [], "needs rows of one shape"),
        ({"a": np.zeros((2, 4, 4, 1)), "b": np.zeros((3, 4, 4, 1))}, [], "needs rows of one shape"),
        ({"a": np.zeros((4, 4, 1))}, [], "needs rows of one shape"),
        ({"a": np.zeros((2, 4, 4, 1))}, ["x"], "2 columns needs as many titles, got 1"),
    ],
)
def test_rows_that_make_no_sheet(tmp_path, rows, titles, message):
    with pytest.raises(InputError, match=message):
        contact_sheet(tmp_path / "sheet.png", rows, titles)


@pytest.mark.parametrize(("count", "columns", "shape"), [(5, None, (2, 3)), (4, None, (2, 2)), (6, 2, (3, 2))])
def test_a_grid_goes_row_by_row(tmp_path, count, columns, shape):
    """Image i is a square of its own shade; enlarged by 6, with lines of 2 pixels around it."""
    shades = np.arange(count) / 255
    images = np.broadcast_to(shades.reshape(-1, 1, 1, 1), (count, 8, 8, 1))
    grid(tmp_path / "grid.png", images, columns)
    pixels = files.imread(tmp_path / "grid.png")
    assert pixels.shape[:2] == tuple(2 + 50 * side for side in shape)
    for index, shade in enumerate(shades):
        top, left = (2 + 50 * place for place in divmod(index, shape[1]))
        np.testing.assert_allclose(pixels[top : top + 48, left : left + 48, :3], shade, atol=1e-3)
        assert pixels[top - 1, left, 0] == pixels[top, left - 1, 0] > 0.5


def test_a_grid_of_nothing(tmp_path):
    with pytest.raises(InputError, match="N at least 1"):
        grid(tmp_path / "grid.png", np.zeros((0, 8, 8, 1)))


def test_each_image_stands_under_its_caption(tmp_path):
    """Five images in rows of two: each is whole, in its place, and the last row is not full."""
    shades = np.array([20, 60, 100, 140, 180]) / 255
    captioned(tmp_path / "c.png", shades[:, None, None, None] * np.ones((5, 8, 8, 1)), ["a\nb"] * 5, columns=2)
    pixels = files.imread(tmp_path / "c.png")
    places = []
    for shade in shades:
        rows, columns = np.nonzero(np.abs(pixels[..., :3] - shade).max(-1) < 0.5 / 255)
        square = pixels[np.median(rows).astype(int), np.median(columns).astype(int)]
        assert square[0] == pytest.approx(shade, abs=1 / 255)
        assert len(rows) >= 96 * 96
        places.append((np.median(rows) // 4, np.median(columns) // 4))  # a letter may have a pixel of its shade
    (first, second, third, fourth, fifth) = places
    assert first[0] == second[0] < third[0] == fourth[0] < fifth[0]
    assert first[1] == third[1] == fifth[1] < second[1] == fourth[1]


def test_names_with_dollars_are_written_as_they_are(tmp_path):
    """They are no formulas: matplotlib raises ValueError of one that it cannot read."""
    images, name = np.zeros((1, 8, 8, 1)), r"$\frac$"
    captioned(tmp_path / "c.png", images, [name])
    contact_sheet(tmp_path / "sheet.png", {name: images}, [name])
    draw_map(tmp_path / "map.png", {"codes": np.eye(4)}, np.array([0, 0, 1, 1]), [name, "$5"])
    write_classes(tmp_path, "test", {"confusion": np.eye(2, dtype=int)}, {"classes": [name, "$5"]})
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_images_without_captions_are_refused(tmp_path):
    with pytest.raises(InputError, match="a caption each"):
        captioned(tmp_path / "c.png", np.zeros((2, 4, 4, 1)), ["one"])
