"""Streams: the plan's examples, at any step, on any number of hosts and threads, to the same bits."""

import contextlib
import gc
import io
import pathlib
import resource
import struct
import subprocess
import sys
import textwrap
import zlib

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from PIL import Image

from jaxrec.data import streaming
from jaxrec.data.batches import eval_batches, train_batches
from jaxrec.data.pictures import read_picture
from jaxrec.data.streaming import Stream
from jaxrec.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 8, 8, 3), np.uint8)


def encoded(image: np.ndarray, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


class InMemory:
    """A few pictures under many numbers."""

    def __init__(self, pictures: list[bytes], count: int | None = None):
        self.pictures, self.count, self.read_so_far = pictures, count or len(pictures), 0

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> bytes:
        self.read_so_far += 1
        return self.pictures[index % len(self.pictures)]

    def name(self, index: int) -> str:
        return f"picture {index}"


def smooth(size: tuple[int, int]) -> np.ndarray:
    """A picture of two slopes, [H, W, 3], so that a crop shows where it was taken."""
    down, right = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]), indexing="ij")
    return np.uint8(np.stack([down, right, np.full(size, 128)], axis=-1))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


JPEGS = [encoded(smooth(size), "JPEG", quality=95) for size in ((40, 60), (64, 32), (200, 150), (17, 90))]


@pytest.fixture(scope="module")
def pngs() -> Stream:
    return Stream(InMemory([encoded(image) for image in PIXELS]), size=(8, 8), channels=3)


@pytest.fixture(scope="module")
def jpegs() -> Stream:
    return Stream(InMemory(JPEGS, 16), size=(16, 16), channels=3, random_area=0.1)


def test_a_stream_is_the_array_of_its_pictures(pngs):
    assert (pngs.shape, pngs.dtype, len(pngs), pngs.ndim) == ((5, 8, 8, 3), np.uint8, 5, 4)
    np.testing.assert_array_equal(pngs[:], PIXELS)
    np.testing.assert_array_equal(pngs[np.array([4, 0])], PIXELS[[4, 0]])
    assert pngs[:0].shape == (0, 8, 8, 3)


@pytest.mark.parametrize("make", [train_batches, eval_batches])
def test_batches_of_a_stream_are_those_of_its_array(pngs, make):
    label = np.arange(5, dtype=np.int32)
    held = make({"image": PIXELS, "label": label}, batch_size=3, seed=1)
    streamed = make({"image": pngs, "label": label}, batch_size=3, seed=1)
    assert list(streamed.resident) == ["label"]
    for step in range(held.per_pass):
        one, other = (batches.fetch(batches.resident, batches.host(step)) for batches in (held, streamed))
        mask = np.asarray(one["mask"])
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(np.asarray(one[key])[mask], np.asarray(other[key])[mask])


def test_a_stream_begins_at_any_step_without_reading_what_came_before():
    pictures = InMemory([encoded(image) for image in PIXELS], 1_000_000)
    batches = train_batches({"image": Stream(pictures, size=(8, 8), channels=3)}, batch_size=10)
    step = 99_000
    rows = batches.host(step)
    np.testing.assert_array_equal(rows["image"], PIXELS[rows["id"] % 5])
    assert pictures.read_so_far < 200
    np.testing.assert_array_equal(batches.host(step)["image"], rows["image"])
    following = batches.host(step + 1)
    back = batches.host(step)
    np.testing.assert_array_equal(back["image"], rows["image"])
    np.testing.assert_array_equal(following["image"], PIXELS[following["id"] % 5])


@hypothesis.given(st.integers(1, 40), st.sampled_from([4, 8, 12]), st.integers(0, 50), st.integers(0, 2**32 - 1))
def test_any_number_of_hosts_reads_the_same_examples(examples, batch_size, step, seed):
    arrays = {"image": np.zeros((examples, 1), np.float32)}
    with pytest.warns() if batch_size > examples else contextlib.nullcontext():
        whole = train_batches(arrays, batch_size=batch_size, seed=seed, hosts=(0, 1))
        parts = {
            count: [train_batches(arrays, batch_size=batch_size, seed=seed, hosts=(i, count)) for i in range(count)]
            for count in (2, 4)
        }
    for hosts in parts.values():
        rows = [part.host(step) for part in hosts]
        for key, value in whole.host(step).items():
            np.testing.assert_array_equal(np.concatenate([row[key] for row in rows]), value)


@hypothesis.given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_each_epoch_holds_every_example_once(examples, batch_size, epoch, seed):
    batch_size = min(batch_size, examples)
    batches = train_batches({"image": np.zeros((examples, 1), np.float32)}, batch_size=batch_size, seed=seed)
    first, last = epoch * examples // batch_size, ((epoch + 1) * examples - 1) // batch_size
    rows = [batches.host(step) for step in range(first, last + 1)]
    ids, epochs = (np.concatenate([row[key] for row in rows]) for key in ("id", "epoch"))
    assert sorted(ids[epochs == epoch]) == list(range(examples))


def test_one_host_of_two_reads_its_own_part_alone():
    pictures = InMemory([encoded(image) for image in PIXELS])
    batches = eval_batches({"image": Stream(pictures, size=(8, 8), channels=3)}, batch_size=4, hosts=(1, 2))
    np.testing.assert_array_equal(batches.host(0)["image"], PIXELS[2:4])
    np.testing.assert_array_equal(batches.host(1)["image"], np.zeros((2, 8, 8, 3)))  # what fills up the last batch
    assert pictures.read_so_far == 2


def test_crops_are_the_same_for_any_number_of_parallel_calls_and_at_any_start(jpegs, monkeypatch):
    found = []
    for calls, first in ((1, 0), (3, 0), (2, 1)):
        monkeypatch.setattr(streaming, "parallel_calls", lambda calls=calls: calls)
        batches = train_batches({"image": jpegs}, batch_size=8, seed=3)
        found.append(np.concatenate([batches.host(step)["image"] for step in range(first, 4)]))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0][8:], found[2])


def test_a_crop_is_a_part_of_the_picture_another_in_each_epoch_and_under_each_seed(jpegs):
    """The picture's slopes tell where it was taken: the share of the area, and the shape, are in their ranges."""
    images = {}
    for seed in (1, 2):
        batches = train_batches({"image": jpegs}, batch_size=16, seed=seed)
        for step in range(4):
            rows = batches.host(step)
            images |= {(seed, step, index): image for index, image in zip(rows["id"], rows["image"], strict=True)}
    assert len({image.tobytes() for image in images.values()}) >= len(images) - 3  # small pictures have few parts
    shares = []
    for (_, _, index), image in images.items():
        height, width = ((40, 60), (64, 32), (200, 150), (17, 90))[index % 4]
        down, right = (np.ptp(image[..., channel].astype(float).mean(axis)) / 255 for channel, axis in ((0, 1), (1, 0)))
        down, right = down * 16 / 15, right * 16 / 15  # from the middle of the first pixel to that of the last
        shares.append(down * right)
        assert right * width / (down * height) == pytest.approx(1, rel=0.55)  # 3/4 to 4/3, of a few pixels
    assert 0.05 < min(shares) < 0.3
    assert 0.7 < max(shares) < 1.1


def test_a_jpeg_that_lies_on_its_side_is_cropped_upright():
    image = smooth((40, 60))
    lying = encoded(np.rot90(image).copy(), "JPEG", quality=95, exif=turned(6))  # the first row is on the right
    stream = Stream(InMemory([lying]), size=(16, 16), channels=3, random_area=0.99)
    with pytest.warns(UserWarning, match="is more than the 1 examples"):
        (image,) = train_batches({"image": stream}, batch_size=2).host(0)["image"][:1]
    assert image[-1, :, 0].mean() > image[0, :, 0].mean() + 150  # dark above, bright below
    assert image[:, -1, 1].mean() > image[:, 0, 1].mean() + 150


@pytest.mark.parametrize("options", [{"exif": b"Exif\0\0no header"}, {"xmp": b'<x tiff:Orientation="3"/>'}])
def test_what_else_says_which_way_a_jpeg_is_up(options):
    """XMP does, and damaged EXIF says nothing; both as `read_picture` has it."""
    data = encoded(smooth((40, 60)), "JPEG", quality=95, **options)
    stream = Stream(InMemory([data]), size=(16, 16), channels=3, random_area=0.99)
    (image,) = train_batches({"image": stream}, batch_size=1).host(0)["image"]
    whole = read_picture(data, channels=3, size=(16, 16)).astype(int)
    assert np.sign(np.diff(image[[0, -1], 8, 0].astype(int))) == np.sign(np.diff(whole[[0, -1], 8, 0]))


def test_a_small_crop_of_a_large_picture_is_antialiased():
    fine = np.uint8(np.indices((512, 512)).sum(0) % 2 * 255)  # black and white by turns: grey from afar
    stream = Stream(InMemory([encoded(fine)]), size=(8, 8), channels=1, random_area=0.9)
    image = train_batches({"image": stream}, batch_size=1).host(0)["image"].astype(int)
    assert np.abs(image - 127.5).max() < 3


def with_chunks(png: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with further chunks behind its header."""
    parts = [struct.pack(">I", len(data)) + kind + data for kind, data in chunks]
    return png[:33] + b"".join(part + struct.pack(">I", zlib.crc32(part[4:])) for part in parts) + png[33:]


@pytest.mark.parametrize(
    "png",
    [
        encoded(PIXELS[0], exif=turned(3)),
        with_chunks(
            encoded(PIXELS[0]),
            (b"gAMA", struct.pack(">I", 45455)),
            (b"tEXt", b"Comment\0made by hand"),
            (b"tRNS", struct.pack(">HHH", *PIXELS[0, 0, 0].tolist())),  # this colour is transparent
        ),
    ],
    ids=["upside down", "transparent"],
)
def test_a_png_that_shows_other_pixels_than_it_stores(png):
    rows = eval_batches({"image": Stream(InMemory([png]), size=(8, 8), channels=3)}, batch_size=1).host(0)
    expected = read_picture(png, channels=3)
    assert (expected != PIXELS[0]).any()
    np.testing.assert_array_equal(rows["image"][0], expected)


def test_an_evaluation_reads_a_picture_as_everything_else_does(jpegs):
    rows = eval_batches({"image": jpegs}, batch_size=4).host(0)
    expected = [read_picture(data, channels=3, size=(16, 16)) for data in JPEGS]
    np.testing.assert_array_equal(rows["image"], expected)


@pytest.mark.parametrize("options", [{}, {"random_area": 0.5}])
@pytest.mark.parametrize("bad", [JPEGS[0][: len(JPEGS[0]) // 2], b"", b"no picture"])
def test_a_picture_that_cannot_be_read_is_named(bad, options):
    stream = Stream(InMemory([JPEGS[0], JPEGS[1], bad, JPEGS[2]]), size=(8, 8), channels=3, **options)
    batches = train_batches({"image": stream}, batch_size=4)
    with pytest.raises(InputError, match="picture 2"):
        batches.host(0)


@pytest.mark.slow  # imports TensorFlow in a process of its own
def test_a_script_that_leaves_a_stream_open_ends():
    program = """
        import io, time
        import numpy as np
        from PIL import Image
        from jaxrec.data.batches import train_batches
        from jaxrec.data.streaming import Stream

        class Slow:
            def __len__(self): return 1000
            def name(self, index): return str(index)
            def read(self, index):
                time.sleep(0.002)
                return content.getvalue()

        content = io.BytesIO()
        Image.fromarray(np.zeros((99, 99, 3), np.uint8)).save(content, "JPEG")
        batches = train_batches({"image": Stream(Slow(), size=(64, 64), channels=3)}, batch_size=32)
        batches.host(0)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_memory_does_not_grow_with_what_was_read():
    pictures = InMemory([encoded(np.tile(image, (16, 16, 1))) for image in PIXELS])
    batches = train_batches({"image": Stream(pictures, size=(128, 128), channels=3)}, batch_size=5)
    peaks = []
    for part in range(4):
        for step in range(50 * part, 50 * part + 50):  # 12 MB
            batches.host(step)
        gc.collect()
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert peaks[-1] - peaks[0] < 20_000  # kB


def test_a_program_learns_the_same_from_a_stream(pngs, one_device):
    import optax

    from jaxrec import compile_task, fit, from_loss, losses, metrics, models
    from jaxrec.data.transforms import unit_range

    label = np.arange(5, dtype=np.int32)
    found = []
    for image in (PIXELS, pngs):
        batches = train_batches({"image": image, "label": label}, batch_size=4, transform=unit_range)
        task = from_loss(models.MLP(widths=(4,), classes=5), losses.softmax_cross_entropy, optax.sgd(0.1))
        program = compile_task(task, batches, parallel=one_device, log_every=5)
        state = fit(program, steps=25)
        split = eval_batches({"image": image, "label": label}, batch_size=4, transform=unit_range)
        found.append((state.params, program.evaluate(state, split), program.predict(state, split)))
        assert program.waited() >= 0
    jax.tree.map(np.testing.assert_array_equal, *found)
    larger = Stream(pngs.pictures, size=(9, 9), channels=3)

    def whiteness(state, batch, key):
        return metrics.means({"white": batch["image"].mean((1, 2, 3))}, batch["mask"])

    for image in (pngs, larger):  # each has a program of its own, and a line says why
        split = eval_batches({"image": image, "label": label}, batch_size=4, transform=unit_range)
        with pytest.warns(UserWarning, match="image") if image is larger else contextlib.nullcontext():
            white = program.evaluate(state, split, whiteness)["white"]
        assert white == pytest.approx(image[:].mean() / 255, rel=1e-5)
