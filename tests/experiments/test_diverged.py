"""What is told of a run that diverged."""

import json
import types

import numpy as np

from experiments import diverged
from jaxrec.engine.divergence import BadStep
from jaxrec.metrics import Mean


def test_the_line_names_the_folder_of_the_run_whatever_process_says_it(tmp_path, monkeypatch):
    """All but process 0 write into a folder that is thrown away."""
    bad = BadStep(3, None, None, {"loss": Mean(np.float32(np.nan), np.float32(1))})
    monkeypatch.setattr(diverged, "first_bad_step", lambda *_: bad)
    monkeypatch.setattr(diverged, "tensors", lambda _: {})
    experiment = types.SimpleNamespace(train=types.SimpleNamespace(host=lambda step: {"id": np.arange(2) + step}))
    own = tmp_path / "own"
    own.mkdir()
    line = str(diverged.report(tmp_path / "run", own, experiment, None, None, 2, 9))
    assert f"{tmp_path}/run/nan_report.json has norms" in line
    assert f"--run={tmp_path}/run --step=3" in line
    assert str(own) not in line
    assert json.loads((own / "nan_report.json").read_text())["examples"] == [3, 4]
