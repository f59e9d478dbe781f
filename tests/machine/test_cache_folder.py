"""What is kept for the next run, nobody else can have put there."""

import os
import pathlib

import jax
import numpy as np
import pytest

from jaxrec.data.cache import kept_arrays, save_arrays
from jaxrec.errors import InputError
from jaxrec.machine import doctor, startup
from jaxrec.machine.folders import cache_folder


@pytest.fixture
def cache(tmp_path, monkeypatch) -> pathlib.Path:
    """The cache below a folder that all may write to, under a umask that lets all write."""
    tmp_path.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before, compiled = os.umask(0), jax.config.jax_compilation_cache_dir
    yield tmp_path / "jaxrec"
    os.umask(before)
    jax.config.update("jax_compilation_cache_dir", compiled)


def test_it_is_the_users_alone(cache):
    save_arrays(cache_folder() / "datasets" / "kept.npz", {"a": np.zeros(3)})
    assert startup.use_compile_cache() == ""
    folders = (cache, cache / "datasets", cache / "xla")
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700] * 3
    assert cache.parent.stat().st_mode & 0o777 == 0o777  # not ours to change


def test_one_that_others_can_read_is_closed_to_them(cache):
    cache.mkdir(mode=0o755)
    startup.use_compile_cache()
    assert cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
@pytest.mark.parametrize("within", [".", "xla", "datasets"])
def test_one_that_others_can_write_is_refused(cache, within, mode):
    (cache / within).mkdir(parents=True, exist_ok=True)
    for folder in (cache, cache / within):
        folder.chmod(0o700)
    (cache / within).chmod(mode)
    message = rf"jaxrec.*: the cache can be written by others.* `chmod -R go-rwx {cache / within}`"
    for use in (startup.use_compile_cache, cache_folder, lambda: kept_arrays(cache_folder() / "a.npz", dict)):
        with pytest.raises(InputError, match=message) as caught:
            use()
        assert str(caught.value).isprintable()
    assert not list(cache.rglob("*.npz"))
    assert "chmod" in doctor.report()[1][-1]
    (cache / within).chmod(0o700)
    assert startup.use_compile_cache() == ""


def test_one_of_another_user_is_refused(cache, monkeypatch):
    cache.mkdir(mode=0o700)
    if os.geteuid() == 0:  # whose folder is refused to nobody: root may write anywhere
        os.chown(cache, 1000, 1000)
    monkeypatch.setattr(os, "geteuid", lambda: 2000)
    with pytest.raises(InputError, match=r"belongs to another user.*XDG_CACHE_HOME"):
        cache_folder()
