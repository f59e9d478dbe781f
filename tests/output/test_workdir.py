"""What a run's folder says of where it was made."""

import json

from jaxrec.output.workdir import write_environment


def test_a_machine_without_git_is_noted_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    write_environment(tmp_path, "gpu x 1 (card)")
    (found,) = json.loads((tmp_path / "environment.json").read_text())
    assert found["git"] is None
    assert found["devices"] == "gpu x 1 (card)"
