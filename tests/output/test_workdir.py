"""A run's folder: what it says of where it was made, whose it is, and what happens where a file in it is garbage."""

import json
import stat

import pytest

from jaxrec.errors import InputError
from jaxrec.output.workdir import owned, read_json, write_environment, write_json


def test_a_machine_without_git_is_noted_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    write_environment(tmp_path, "gpu x 1 (card)")
    (found,) = json.loads((tmp_path / "environment.json").read_text())
    assert found["git"] is None
    assert found["devices"] == "gpu x 1 (card)"


GARBAGE = {
    "nothing": b"",
    "text": b"garbage",
    "cut": b'{"step": 3, "met',
    "bytes": bytes(range(256)),
    "deep": b"[" * 10**5,
    "a list": b"[1]",
    "another key": b'{"steps": 3}',
    "another kind": b'{"step": "3"}',
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_one_line_that_names_the_file(tmp_path, kind):
    (tmp_path / "result.json").write_bytes(GARBAGE[kind])
    with pytest.raises(InputError, match=rf"^{tmp_path}/result.json: [^\n]* The file is damaged: put it back [^\n]*$"):
        read_json(tmp_path / "result.json", keys={"step": int})


def test_what_was_written_is_read(tmp_path):
    write_json(tmp_path / "result.json", {"step": 3, "loss": 0.1})
    assert read_json(tmp_path / "result.json", keys={"step": int}) == {"step": 3, "loss": 0.1}


def test_garbage_among_the_environments_is_kept(tmp_path):
    (tmp_path / "environment.json").write_text("{}")
    with pytest.raises(InputError, match=r"environment.json: holds dict, needs list"):
        write_environment(tmp_path, "cpu x 1")
    assert (tmp_path / "environment.json").read_text() == "{}"


def test_a_run_whose_config_is_garbage_is_left_alone(tmp_path):
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(InputError, match=r"config.json: cannot be read"), owned(tmp_path, {"seed": 1}):
        pass
    assert (tmp_path / "config.json").read_text() == "["


def test_a_new_folder_is_the_user_s_alone_and_an_old_one_stays_as_it_was(tmp_path):
    (tmp_path / "old").mkdir(mode=0o755)
    for name in ("old", "new"):
        with owned(tmp_path / name, {}):
            pass
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("old", "new")}
    assert modes == {"old": 0o755, "new": 0o700}


@pytest.mark.parametrize("held", ["checkpoints", "interrupted"])
def test_another_config_is_refused_wherever_a_state_lies(tmp_path, held):
    (tmp_path / held / "5").mkdir(parents=True)
    write_json(tmp_path / "config.json", {"seed": 1})
    with pytest.raises(InputError, match=r"another config \(config\.seed: 1 -> 2\)"), owned(tmp_path, {"seed": 2}):
        pass
    assert read_json(tmp_path / "config.json") == {"seed": 1}


def test_what_may_change_is_told_when_a_run_goes_on(tmp_path):
    before, after = ({"train": {"keep": keep, "steps": 5}} for keep in (1, 2))
    with owned(tmp_path, before, free=["config.train.keep"]) as changed:
        assert changed == []
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    (tmp_path / "config.json").rename(tmp_path / "aside")
    with pytest.raises(InputError, match=r"holds checkpoints and no config\.json"), owned(tmp_path, before):
        pass
    (tmp_path / "aside").rename(tmp_path / "config.json")
    with owned(tmp_path, after, free=["config.train.keep"]) as changed:
        assert changed == ["config.train.keep: 1 -> 2"]
    with pytest.raises(InputError, match=r"another config \(config\.train\.keep: 2 -> 1\)"), owned(tmp_path, before):
        pass
