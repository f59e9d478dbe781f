"""One picture file becomes one array: against Pillow used plainly, and numpy."""

import io
import os
import pathlib
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from jaxrec.data import pictures
from jaxrec.data.pictures import BadPictureError, decode_picture, read_picture, stored_size
from jaxrec.errors import InputError

NOISE = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
LOSSLESS = {"PNG": {}, "BMP": {}, "GIF": {}, "WEBP": {"lossless": True}, "TIFF": {}}


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


# ---- kinds of files and of pixels


@pytest.mark.parametrize(("kind", "options"), LOSSLESS.items())
def test_lossless_files_keep_their_pixels(kind, options):
    np.testing.assert_array_equal(read_picture(encoded(NOISE, kind, **options), channels=3), NOISE)


def test_a_jpeg_is_what_pillow_decodes():
    data = encoded(NOISE, "JPEG")
    np.testing.assert_array_equal(read_picture(data, channels=3), np.asarray(Image.open(io.BytesIO(data))))


def test_content_counts_and_not_the_extension(tmp_path):
    for name in ("picture.jpg", "picture.txt", "picture"):
        (tmp_path / name).write_bytes(encoded(NOISE))
        np.testing.assert_array_equal(read_picture(tmp_path / name, channels=3), NOISE)


def test_grey_is_the_luma_of_red_green_and_blue():
    grey = read_picture(encoded(NOISE), channels=1)
    assert grey.shape == (12, 10, 1)
    np.testing.assert_allclose(grey[..., 0], NOISE @ [0.299, 0.587, 0.114], atol=0.51)
    np.testing.assert_array_equal(read_picture(encoded(grey[..., 0]), channels=3), grey.repeat(3, -1))


def test_sixteen_bits_are_scaled_and_not_clipped():
    levels = np.array([[0, 1, 128, 129, 257, 32768, 65534, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        found = read_picture(encoded(levels, kind), channels=1)[..., 0]
        np.testing.assert_array_equal(found, np.round(levels / 257))


def test_one_bit_is_black_and_white():
    bits = NOISE[..., 0] > 127
    found = read_picture(encoded(Image.fromarray(bits)), channels=1)[..., 0]
    np.testing.assert_array_equal(found, np.where(bits, 255, 0))


def test_what_is_transparent_shows_white():
    alpha = np.random.default_rng(1).integers(0, 256, (12, 10), np.uint8)
    share = alpha[..., None] / 255
    for size in (None, (12, 10)):
        found = read_picture(encoded(np.dstack([NOISE, alpha])), channels=3, size=size)
        np.testing.assert_allclose(found, share * NOISE + (1 - share) * 255, atol=1.01)
    hidden = np.dstack([NOISE, np.zeros_like(alpha)])  # whatever colour lies under it
    for size in (None, (5, 5), (30, 20)):
        assert (read_picture(encoded(hidden), channels=1, size=size) == 255).all()


def test_a_palette_with_a_transparent_colour():
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    colours = [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]]
    np.testing.assert_array_equal(read_picture(encoded(image), channels=3), colours)
    colours[0][1] = colours[1][1] = [255, 255, 255]
    np.testing.assert_array_equal(read_picture(encoded(image, transparency=1), channels=3), colours)


def test_four_inks_are_red_green_and_blue():
    flat = np.full((8, 8, 3), (200, 120, 40), np.uint8)
    for kind in ("JPEG", "TIFF"):
        found = read_picture(encoded(Image.fromarray(flat).convert("CMYK"), kind), channels=3)
        np.testing.assert_allclose(found, flat, atol=3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_read_and_that_is_said_once(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "_SAID", threading.Event())
    frames = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]
    options = {"append_images": frames[1:], "save_all": True, **LOSSLESS[kind]}
    data = encoded(frames[0], kind, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for index in range(3):
            (tmp_path / f"{index}.gif").write_bytes(data)
            np.testing.assert_array_equal(read_picture(tmp_path / f"{index}.gif", channels=3), NOISE)
    assert [str(warning.message) for warning in caught] == [
        "Of animated pictures the first frame is read, of several pages the first."
    ]


def test_the_pictures_behind_that_of_a_phone_are_no_animation():
    data = encoded(Image.fromarray(NOISE), "MPO", save_all=True, append_images=[Image.fromarray(NOISE)])
    assert read_picture(data, channels=3).shape == NOISE.shape


# ---- which way is up


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_stand_upright(kind, turn):
    data = encoded(NOISE, kind, exif=exif(turn), **LOSSLESS.get(kind, {}))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    picture = decode_picture(data, channels=3)
    np.testing.assert_array_equal(picture.pixels, upright)
    assert picture.stored == stored_size(data) == upright.shape[:2]
    # ... also those that are resized: as if they had been turned before.
    resized = decode_picture(data, channels=3, size=(8, 5))
    before = read_picture(encoded(upright), channels=3, size=(8, 5))
    assert resized.stored == picture.stored
    np.testing.assert_allclose(resized.pixels, before, atol=1)


def test_damaged_exif_leaves_a_picture_as_it_is():
    data = encoded(NOISE, "PNG", exif=b"Exif\x00\x00MM\x00\x2a\x00\x00\xff\xff garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_picture(data, channels=3), NOISE)


# ---- resize and crop


def reference(image: Image.Image, size: tuple[int, int], crop: float) -> np.ndarray:
    """In two steps: scaled so that it covers size / crop, then the centre cut out of it."""
    (height, width), scale = size, max(size[1] / crop / image.width, size[0] / crop / image.height)
    wide, high = round(image.width * scale), round(image.height * scale)
    left, top = (wide - width) // 2, (high - height) // 2
    whole = image.resize((wide, high), Image.Resampling.BILINEAR)
    return np.asarray(whole.crop((left, top, left + width, top + height)))


@pytest.mark.parametrize("size", [(32, 32), (40, 20), (24, 48)])
@pytest.mark.parametrize("crop", [1.0, 0.8, 0.5])
def test_resizing_covers_the_size_and_keeps_the_centre(size, crop):
    # 160 x 80: every product below is whole, so that the two ways cut at the same places.
    image = Image.fromarray(load_sample_image("china.jpg")[100:180, 200:360])
    found = read_picture(encoded(image), channels=3, size=size, crop=crop)
    assert found.shape == (*size, 3)
    apart = np.abs(found.astype(int) - reference(image, size, crop))
    assert apart.mean() < 1.5


def test_a_picture_that_has_the_size_keeps_its_pixels():
    for kind, options in LOSSLESS.items():
        data = encoded(NOISE, kind, **options)
        np.testing.assert_array_equal(read_picture(data, channels=3, size=(12, 10)), NOISE)
    assert (read_picture(encoded(NOISE), channels=3, size=(12, 10), crop=0.5) != NOISE).any()


def test_enlarging_and_extreme_shapes():
    for shape in ((1, 1), (1, 500), (500, 1), (3, 2)):
        flat = np.full((*shape, 3), 77, np.uint8)
        assert (read_picture(encoded(flat), channels=3, size=(9, 7), crop=0.9) == 77).all()


def test_a_large_jpeg_is_decoded_small_and_looks_the_same():
    photo = Image.fromarray(load_sample_image("flower.jpg"))
    photo = photo.crop((0, 0, 600, 400)).resize((2400, 1600), Image.Resampling.BICUBIC)
    data = encoded(photo, "JPEG", quality=95)
    found = read_picture(data, channels=3, size=(64, 64), crop=0.875)
    plain = read_picture(encoded(Image.open(io.BytesIO(data))), channels=3, size=(64, 64), crop=0.875)
    assert np.abs(found.astype(int) - plain).mean() < 1.5
    assert np.abs(found.astype(int) - plain).max() < 24


# ---- what is no picture


def refusal(*arguments, **options) -> str:
    with pytest.raises(BadPictureError) as caught:
        read_picture(*arguments, channels=3, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bytes_go_by_the_name_they_are_given():
    assert refusal(b"", name="set/train/7").startswith("set/train/7: an empty file, 0 bytes.")
    assert refusal(b"").startswith("a picture: an empty file")


def test_a_header_beyond_the_limit_is_refused_before_anything_is_decoded(monkeypatch):
    data = encoded(NOISE)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 119)
    monkeypatch.setattr(pictures, "_decoded", lambda *_: pytest.fail("decoded"))
    assert "10 x 12 pixels by its header; 119 are allowed" in refusal(data, name="a.png")


def test_pillows_own_limit_and_warnings_stay_out_of_it(monkeypatch):
    for limit in (100, 10):  # it would warn of the picture, and refuse it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for kind in ("PNG", "TIFF"):
            np.testing.assert_array_equal(read_picture(encoded(NOISE, kind), channels=3), NOISE)
        assert limit == Image.MAX_IMAGE_PIXELS


def test_arguments_that_cannot_be_meant_are_no_fault_of_the_file():
    for options in ({"channels": 4}, {"channels": 3, "crop": 0}, {"channels": 3, "crop": 1.5}):
        with pytest.raises(InputError, match="allowed are 1 or 3, and a number above 0, up to 1") as caught:
            read_picture(encoded(NOISE), **options)
        assert not isinstance(caught.value, BadPictureError)


def test_memory_that_does_not_suffice_is_no_fault_of_the_file(monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(pictures, "_decoded", full)
    with pytest.raises(InputError, match="a picture: this machine's memory is too small") as caught:
        read_picture(encoded(NOISE, "GIF"), channels=3, size=(5, 5))
    assert not isinstance(caught.value, BadPictureError)


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr(pictures, "LARGE", 100)
    inside, most, decoded = [0], [0], pictures._decoded

    def counted(*arguments):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        threading.Event().wait(0.005)
        result = decoded(*arguments)
        inside[0] -= 1
        return result

    monkeypatch.setattr(pictures, "_decoded", counted)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: read_picture(encoded(NOISE), channels=3), range(8)))
    assert most == [1]


def test_what_others_warn_of_while_a_picture_is_read_is_heard(monkeypatch):
    """Streams are read in threads, and filters of warnings belong to the whole process."""
    opened = Image.open

    def meanwhile(*arguments, **options):
        warnings.warn("of another thread", stacklevel=1)
        return opened(*arguments, **options)

    monkeypatch.setattr(Image, "open", meanwhile)
    with pytest.warns(UserWarning, match="of another thread"):
        read_picture(encoded(NOISE), channels=3)


def test_names_that_would_break_a_line_do_not(tmp_path):
    path = tmp_path / "two\nlines.png"
    path.write_bytes(b"")
    assert "two\\nlines.png" in refusal(path)
    odd = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    odd.write_bytes(b"")
    refusal(odd).encode()  # can be printed


DAMAGED = {
    "PNG": encoded(NOISE, "PNG", exif=exif(6)),
    "JPEG": encoded(NOISE, "JPEG", exif=exif(3)),
    "BMP": encoded(NOISE, "BMP"),
    "GIF": encoded(Image.fromarray(NOISE), "GIF", save_all=True, append_images=[Image.fromarray(255 - NOISE)]),
    "WEBP": encoded(NOISE, "WEBP", exif=exif(5)),
    "TIFF": encoded(NOISE, "TIFF", exif=exif(8)),
    "palette": encoded(Image.fromarray(NOISE).convert("P"), "PNG", transparency=3),
    "16 bits": encoded(NOISE[..., 0].astype(np.uint16) * 257, "PNG"),
}


@pytest.mark.parametrize("kind", DAMAGED)
@settings(max_examples=150)
@given(data=st.data())
def test_damage_of_any_kind_is_an_array_or_one_line(kind, data):
    """A fuzzer of the same form found nothing else in 300,000 damaged files."""
    content = bytearray(DAMAGED[kind])
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(content)), st.integers(0, 255)), max_size=6)):
        content[place : place + 1] = bytes([value])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            picture = decode_picture(bytes(content), channels=3, size=data.draw(st.sampled_from([None, (8, 8)])))
            line = "a picture: none"
        except InputError as error:
            picture, line = None, str(error)
    assert line.startswith("a picture: ")
    assert "\n" not in line
    assert picture is None or (picture.pixels.dtype, picture.pixels.shape[2]) == (np.uint8, 3)
