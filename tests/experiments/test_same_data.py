"""A run goes on, and is measured, on the data that it began with."""

import contextlib
import json
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from PIL import Image

from experiments.commands.replay import replay
from experiments.commands.run import run
from experiments.evaluation import evaluation_of
from experiments.settings.flags import from_flags
from experiments.stored import NOTES, check_same_data
from jaxrec.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def began(tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
    """The folder of 40 pictures, and that of a run that was stopped."""
    pictures, workdir = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("runs") / "run"
    for index in range(40):
        write(pictures / "ab"[index % 2] / f"{index}.png", index)
    run(config(pictures), workdir, until=2, finish=False)
    return pictures, workdir


def write(file: pathlib.Path, seed: int) -> None:
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)).save(file)


def config(pictures: pathlib.Path, **options: int) -> dict:
    train = ("batch_size=8", "steps=4", "epochs=None", "log_every=2", "save_every=2")
    sections = {"data": {"name": "folder", "path": str(pictures), **options}, "model": {"name": "MLP", "widths": (4,)}}
    small = [f"--config.{name}={value}" for name, value in sections.items()]
    small += [f"--config.train.{name}" for name in train]
    return from_flags([f"--config={ROOT}/configs/digits_cnn.py", *small])[0]


@contextlib.contextmanager
def without(files: Iterable[pathlib.Path], seed: int | None = None) -> Iterator[None]:
    """No pictures in the place of these for a while, or others."""
    before = {file: file.read_bytes() for file in files}
    for place, file in enumerate(before):
        file.unlink()
        if seed is not None:
            write(file, seed + place)
    yield
    for file, content in before.items():
        file.write_bytes(content)


CONTENT = "image [0-9a-f]{16} -> [0-9a-f]{16}"


@pytest.mark.parametrize(
    ("which", "seed", "changed"),
    [
        ("a/0.png", None, f"examples 40 -> 39, {CONTENT}, label [0-9a-f]{{16}} -> [0-9a-f]{{16}}, splits, mean, std"),
        ("a/*.png", 1000, f"{CONTENT}, mean, std"),
    ],
)
def test_with_other_pictures_a_run_does_not_go_on(began, which, seed, changed):
    pictures, workdir = began
    with without([*pictures.glob(which)], seed), pytest.raises(InputError, match=rf"since it began \({changed}\)"):
        run(config(pictures), workdir)


def test_one_pixel_is_enough(began):
    pictures, workdir = began
    file = pictures / "b" / "39.png"
    with without([file]):
        pixels = np.random.default_rng(39).integers(0, 256, (4, 4, 3), np.uint8)
        pixels[1, 2, 0] ^= 1
        Image.fromarray(pixels).save(file)
        with pytest.raises(InputError, match=rf"since it began \({CONTENT}"):
            run(config(pictures), workdir)


def test_what_an_older_version_has_noted_is_enough(began):
    """It knew of splits and moments alone."""
    _, workdir = began
    noted = json.loads((workdir / NOTES).read_text())
    older = {key: value for key, value in noted.items() if key != "contents"}
    assert noted != older
    check_same_data(workdir, older, noted)
    with pytest.raises(InputError, match=r"\(splits\)"):
        check_same_data(workdir, older, {**noted, "splits": "0"})


def test_what_is_measured_is_what_was_held_out(began):
    pictures, workdir = began
    assert evaluation_of(workdir, "--run").step == 2
    with without([pictures / "a" / "0.png"], seed=2000), pytest.raises(InputError, match="have changed since it began"):
        evaluation_of(workdir, "--run")


def test_no_step_is_replayed_on_other_data(began):
    pictures, workdir = began
    with without([pictures / "a" / "0.png"], seed=2000), pytest.raises(InputError, match="have changed since it began"):
        replay(run=str(workdir), step=1)


def test_what_fits_is_no_free_choice(began):
    """The moments of a stream are those of a sample."""
    pictures, workdir = began
    with pytest.raises(InputError, match=r"another config \(config.data.max_bytes: 4000000000 -> 10\)"):
        run(config(pictures, max_bytes=10), workdir)
