"""What is kept is whole, or nothing is left of it."""

import numpy as np
import pytest

from jaxrec.data.cache import kept_arrays, save_arrays
from jaxrec.errors import InputError


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(file, **arrays):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_arrays(tmp_path / "kept.npz", {"a": np.zeros(3)})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"the cache cannot be written .*XDG_CACHE_HOME"):
        save_arrays(tmp_path / "file" / "kept.npz", {"a": np.zeros(3)})


def test_what_was_kept_is_not_made_again(tmp_path):
    made = [kept_arrays(tmp_path / "kept.npz", lambda value=value: {"a": np.full(3, value)}) for value in (1, 2)]
    assert [arrays["a"].tolist() for arrays in made] == [[1, 1, 1]] * 2
    assert [file.name for file in tmp_path.iterdir()] == ["kept.npz"]
