"""A run's folder is data: whatever code lies in it, no command runs it."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import launch
from experiments.commands.run import run
from experiments.settings.flags import from_flags

ROOT = pathlib.Path(__file__).parents[2]
# Names that Python, pytest or the house import of themselves, wherever they look first.
MODULES = ("sitecustomize", "usercustomize", "conftest", "config", "launch", "setup", "json", "numpy", "jax", "flax")
MODULES += ("jaxrec/__init__", "experiments/__init__", "experiments/classify", "evil/__init__", "evil/module")


def trap(folder: pathlib.Path, config: str, model: str) -> pathlib.Path:
    """The folder of a run that was stopped, full of code that leaves a file "ran" above it."""
    code = f"open({str(folder / 'ran')!r}, 'a').write(__name__)\n"
    train = [f"--config.train.{name}" for name in ("batch_size=64", "epochs=None", "log_every=2", "steps=4")]
    words = [f"--config={ROOT}/configs/{config}.py", f"--config.model={model}", "--config.updates.ema=0.0", *train]
    run(from_flags(words)[0], folder / "run", until=2, finish=False)
    for place in ("run", "run/checkpoints"):  # in a step's own folder, verification finds them
        for module in MODULES:
            file = folder / place / f"{module}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(code)
        (folder / place / "evil.pth").write_text(f"import os; {code}")
    return folder


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory) -> pathlib.Path:
    return trap(tmp_path_factory.mktemp("recogniser"), "digits_cnn", "{'name': 'MLP', 'widths': (4,)}")


@pytest.mark.slow  # a whole launch
def test_a_run_goes_on_from_there(recogniser):
    """A process of its own: Python, too, looks around as it starts."""
    command = [sys.executable, str(ROOT / "launch.py"), "--config=config.json", "--workdir=."]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(
        command, cwd=recogniser / "run", env=environment, capture_output=True, text=True, timeout=100
    )
    assert found.returncode == 0, found.stderr
    assert "Resuming" in found.stdout
    assert (recogniser / "run" / "result.json").exists()
    assert not (recogniser / "ran").exists()


@pytest.mark.parametrize("words", [["evaluate", "--split=validation"], ["predict", "../x.npz", "--out=../answers.csv"]])
def test_its_readers_run_nothing_that_lies_there(recogniser, monkeypatch, words):
    np.savez(recogniser / "x.npz", np.zeros((2, 8, 8, 1), np.uint8))
    monkeypatch.chdir(recogniser / "run")
    assert launch.main([*words, "--run=."]) == 0
    assert not (recogniser / "ran").exists()


@pytest.mark.slow
def test_nor_does_who_makes_images(tmp_path, monkeypatch):
    trap(tmp_path, "digits_vae", "{'name': 'DenseVAE', 'latent': 2, 'widths': (4,)}")
    monkeypatch.chdir(tmp_path / "run")
    assert launch.main(["--config=config.json", "--workdir=."]) == 0
    assert launch.main(["sample", "--workdir=.", "--images=4"]) == 0
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["experiment", "model", "data", "loss"])
def test_what_its_config_names_is_not_imported(recogniser, tmp_path, monkeypatch, capsys, key):
    shutil.copytree(recogniser / "run", tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    named = "evil.module" if key == "experiment" else {"name": "evil.module.found"}
    file.write_text(json.dumps({**json.loads(file.read_text()), key: named}))
    monkeypatch.syspath_prepend(str(recogniser / "run"))  # where it would be found
    for words in ([f"--config={file}", f"--workdir={tmp_path}/run"], ["evaluate", f"--run={tmp_path}/run"]):
        assert launch.main(words) == 2
        assert "--allow=evil" in capsys.readouterr().err
    assert "evil" not in sys.modules
    assert not (recogniser / "ran").exists()


def test_the_canary_sings(recogniser):
    """Else the tests above would pass on code that does nothing."""
    subprocess.run([sys.executable, recogniser / "run" / "conftest.py"], check=True)
    assert (recogniser / "ran").read_text() == "__main__"
    (recogniser / "ran").unlink()
