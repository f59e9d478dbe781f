"""`launch.py verify`."""

import jax.numpy as jnp
import pytest

from experiments.commands.verify import verify
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.errors import InputError


@pytest.fixture
def run(tmp_path):
    """A run of the steps 1 and 2 that was interrupted at 3."""
    for place, steps in (("checkpoints", (1, 2)), ("interrupted", (3,))):
        with Checkpoints(tmp_path / place, keep=2) as checkpoints:
            for step in steps:
                checkpoints.save(step, {"kernel": jnp.full(50000, float(step))})
    return tmp_path


def test_each_checkpoint_has_a_line(run, capsys):
    assert verify(run=str(run)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == [
        "checkpoints, step 1",
        "checkpoints, step 2",
        "interrupted, step 3",
    ]
    assert all(": ok, 1" in line and "MB" in line for line in lines[:-1])


def test_damage_is_named_and_sealing_does_not_hide_it(run, capsys):
    (run / "checkpoints" / "1" / "default" / "_METADATA").unlink()
    (run / "checkpoints" / "9999").mkdir()
    assert verify(run=str(run), seal=True) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "checkpoints, step 1: DAMAGED, default/_METADATA is missing" in lines
    assert any(line.startswith("checkpoints, step 9999: DAMAGED, has no manifest") for line in lines)
    assert lines[-1] == "2 damaged"
    assert list((run / "checkpoints" / "9999").iterdir()) == []


def test_what_an_older_version_saved_is_vouched_for(run, capsys):
    (run / "checkpoints" / "2" / "manifest.json").unlink()
    assert verify(run=str(run)) == 1
    assert "step 2: DAMAGED, has no manifest" in capsys.readouterr().out
    assert verify(run=str(run), seal=True) == 0
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.read(checkpoints.latest())["kernel"][0] == 2


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run with checkpoints is there"):
        verify(run=str(tmp_path))
