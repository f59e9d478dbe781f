"""Damage of every kind to a checkpoint: it is seen, named, and an older one is taken."""

import json
import os
import pathlib
import re
import shutil
import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.engine import manifest
from jaxrec.engine.checkpoint import Checkpoints, check_room
from jaxrec.errors import InputError

SHAPES = {"kernel": jax.ShapeDtypeStruct((16, 8), jnp.float32), "step": jax.ShapeDtypeStruct((), jnp.int32)}


def tree(step: int) -> dict:
    return {"kernel": jnp.full((16, 8), float(step)), "step": jnp.asarray(step, jnp.int32)}


def largest(folder: pathlib.Path) -> pathlib.Path:
    return max(
        (path for path in (folder / "default").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    """Steps 3 and 4."""
    folder = tmp_path_factory.mktemp("saved")
    with Checkpoints(folder, keep=2, monitor="accuracy") as checkpoints:
        for step in (3, 4):
            checkpoints.save(step, tree(step), {"accuracy": step / 10})
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> pathlib.Path:
    return shutil.copytree(saved, tmp_path / "checkpoints")


def latest(folder: pathlib.Path, **options) -> tuple[int | None, list[str]]:
    """The newest step that is believed, and what was warned of."""
    with warnings.catch_warnings(record=True) as told, Checkpoints(folder, **options) as checkpoints:
        warnings.simplefilter("always")
        return checkpoints.latest(), [str(warning.message) for warning in told]


def test_what_is_whole_agrees_with_its_manifest(folder):
    assert latest(folder) == (4, [])
    stored = json.loads((folder / "4" / "manifest.json").read_text())
    files = {path.relative_to(folder / "4").as_posix() for path in (folder / "4").rglob("*") if path.is_file()}
    assert stored["step"] == 4
    assert stored["files"].keys() == files - {"manifest.json"}
    assert sum(file["bytes"] for file in stored["files"].values()) == sum(manifest.sizes(folder / "4").values())


def test_no_flipped_bit_goes_unseen(folder):
    files = sorted(path for path in (folder / "4").rglob("*") if path.is_file())
    rng = np.random.default_rng(0)
    for number in range(30):
        file = files[number % len(files)]
        whole = file.read_bytes()
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        step, (line,) = latest(folder, read_only=True)
        assert step == 3
        assert f"{folder}/4 is not used: " in line
        assert file.relative_to(folder / "4").as_posix() in line or file.name == manifest.NAME
        file.write_bytes(whole)
    assert latest(folder) == (4, [])


def cut(folder):
    file = largest(folder / "4")
    file.write_bytes(file.read_bytes()[:-1])


def zeroed(folder):
    file = largest(folder / "4")
    file.write_bytes(bytes(file.stat().st_size))


def garbage(name: str, content: bytes):
    return lambda folder: (folder / "4" / name).write_bytes(content)


def linked(folder):
    file = largest(folder / "4")
    file.rename(folder / "moved")
    file.symlink_to(folder / "moved")


def replaced(source: str, name: str = "4"):
    def damage(folder):
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
        copy = shutil.copytree if (folder / source).is_dir() else shutil.copy
        copy(folder / source, folder / name)

    return damage


def step_linked(folder):
    (folder / "4").rename(folder / "elsewhere")
    (folder / "4").symlink_to(folder / "elsewhere")


DAMAGE = {
    "cut": (cut, r"default/\S+ has \d+ bytes, and \d+ were written"),
    "zeroed": (zeroed, r"default/\S+ holds other bytes than were written"),
    "deleted": (lambda folder: largest(folder / "4").unlink(), r"default/\S+ is missing"),
    "added": (garbage("default/more", b""), r"default/more has come in later"),
    "another step's file": (replaced("3/metrics/metrics", "4/metrics/metrics"), r"metrics/metrics holds other bytes"),
    "another step's folder": (replaced("3"), r"manifest.json is of step 3"),
    "a linked file": (linked, r"default/\S+ is a link, not a file"),
    "a linked folder": (step_linked, r"is a link, not a folder"),
    "a pipe": (
        lambda folder: (largest(folder / "4").unlink(), os.mkfifo(folder / "4" / "pipe")),
        r"pipe is not a file",
    ),
    "no folder": (replaced("3/metrics/metrics"), r"cannot be read"),
    "empty": (lambda folder: (shutil.rmtree(folder / "4"), (folder / "4").mkdir()), r"has no manifest"),
    "no manifest": (lambda folder: (folder / "4" / "manifest.json").unlink(), r"has no manifest: .* --seal"),
    "manifest: no JSON": (garbage("manifest.json", b"\x00\xff\xfe"), r"manifest.json is not one"),
    "manifest: cut": (garbage("manifest.json", b'{"step": 4, "fil'), r"manifest.json is not one"),
    "manifest: a list": (garbage("manifest.json", b"[4]"), r"manifest.json is not one"),
    "manifest: other keys": (garbage("manifest.json", b'{"step": 4, "files": {"a": 3}}'), r"manifest.json is not one"),
    "manifest: deep": (garbage("manifest.json", b"[" * 10**5), r"manifest.json is not one"),
    "orbax: garbage": (garbage("default/_METADATA", b"{"), r"default/_METADATA has 1 bytes"),
    "metrics: garbage": (garbage("metrics/metrics", b"["), r"metrics/metrics has 1 bytes"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_the_older_step_is_taken(folder, kind):
    damage, words = DAMAGE[kind]
    damage(folder)
    step, (line,) = latest(folder, read_only=True)
    assert step == 3
    assert re.search(rf"checkpoints/4 is not used: .*{words}", line)
    with Checkpoints(folder, read_only=True, monitor="accuracy") as checkpoints:
        with pytest.raises(InputError, match=rf"step 4 in .* cannot be used: .*{words}.* Those that can: 3\."):
            checkpoints.read(4)
        with pytest.warns(UserWarning, match="not used"):
            assert checkpoints.best() == 3
        np.testing.assert_array_equal(checkpoints.read(3)["kernel"], np.full((16, 8), 3))


@pytest.mark.filterwarnings("ignore:The checkpoint .* is not used")
@pytest.mark.parametrize("kind", ["zeroed", "another step's folder", "a linked folder", "no folder", "empty"])
def test_a_run_goes_on_over_it_and_deletes_nothing_foreign(folder, kind):
    DAMAGE[kind][0](folder)
    (folder / "notes.txt").write_text("mine")
    damaged = sorted(os.listdir(folder / "4")) if (folder / "4").is_dir() else []
    with Checkpoints(folder, monitor="accuracy") as checkpoints:
        assert checkpoints.latest() == 3
        for step in (4, 5):
            checkpoints.save(step, tree(step), {"accuracy": 0.1})
    with Checkpoints(folder, monitor="accuracy") as checkpoints:
        assert checkpoints.steps() == [3, 5]  # the best and the newest
        assert checkpoints.read(5)["step"] == 5
    assert (folder / "notes.txt").read_text() == "mine"
    aside = folder / "4-damaged-1"
    assert damaged == (sorted(os.listdir(aside)) if aside.is_dir() else [])


@pytest.mark.filterwarnings("ignore:The checkpoint .* is not used")
@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_has_a_newer_step_s_name_does_no_harm(folder, kind, tmp_path):
    stray = folder / "9999"
    if kind == "folder":
        stray.mkdir()
    elif kind == "file":
        stray.write_text("mine")
    else:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "mine").write_text("mine")
        stray.symlink_to(tmp_path / "outside")
    assert latest(folder)[0] == 4
    with Checkpoints(folder) as checkpoints:
        with pytest.warns(UserWarning, match="9999 is not used"):
            checkpoints.save(5, tree(5))
        checkpoints.save(6, tree(6))
        assert checkpoints.latest() == 6
    assert sorted(os.listdir(folder)) == ["6", "9999"]
    assert kind != "link" or (tmp_path / "outside" / "mine").read_text() == "mine"


def test_where_nothing_is_believed_there_is_no_step(folder):
    for step in (3, 4):
        (folder / str(step) / "manifest.json").unlink()
    step, told = latest(folder)
    assert step is None
    assert len(told) == 2
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.damaged().keys() == {3, 4}
    for step in (3, 4):
        manifest.write(folder / str(step), step)  # vouched for
    assert latest(folder) == (4, [])


def test_a_step_has_its_name_once_it_is_whole_and_only_then_older_ones_go(tmp_path, monkeypatch):
    """The manifest is written off the step's path; a kill meanwhile finds the step before as it was."""
    seen, write, may_write = [], manifest.write, threading.Event()

    def watched(folder, step):
        assert may_write.wait(60)
        seen.append((step, threading.current_thread() is threading.main_thread(), sorted(os.listdir(tmp_path))))
        write(folder, step)

    monkeypatch.setattr(manifest, "write", watched)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree(1))  # does not wait for the manifest
        may_write.set()
        checkpoints.save(2, tree(2))
    assert seen == [(1, False, ["1.partial"]), (2, False, ["1", "2.partial"])]
    assert os.listdir(tmp_path) == ["2"]


def test_a_manifest_that_cannot_be_written_leaves_the_step_before(tmp_path, monkeypatch, caplog):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree(1))
        checkpoints.wait()

        def full(folder, step):
            raise OSError(28, os.strerror(28), str(folder))

        with monkeypatch.context() as patched:
            patched.setattr(manifest, "write", full)
            checkpoints.save(2, tree(2))
            with pytest.raises(InputError, match=rf"{tmp_path}/2: .*No space left .* needs 516 bytes, and [\d,]+ are"):
                checkpoints.wait()
        assert not [record for record in caplog.records if record.exc_info]  # it is raised, and need not be printed
        assert checkpoints.latest() == 1
        with Checkpoints(tmp_path) as another:  # as the next process does: it tidies up
            assert os.listdir(tmp_path) == ["1"]
            assert another.latest() == 1
        checkpoints.save(3, tree(3))  # there is room again
        assert checkpoints.steps() == [3]


def test_a_disk_without_room_is_refused_before_anything_is_compiled(tmp_path, monkeypatch):
    check_room(tmp_path / "run" / "checkpoints", SHAPES, copies=2)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1500))
    check_room(tmp_path, SHAPES, copies=2)
    with pytest.raises(InputError, match="3 checkpoints need 1,548 bytes, and 1,500 are free"):
        check_room(tmp_path, SHAPES, copies=3)
    (tmp_path / "file").write_bytes(bytes(100))
    check_room(tmp_path, SHAPES, copies=3)  # what is there makes way
    with pytest.raises(InputError, match="cannot write here"):
        check_room(tmp_path / "file", SHAPES, copies=1)
