"""What a shell is told of a command line that is not finished, and that bash makes words of it."""

import pathlib
import shutil
import subprocess
import sys

import pytest

import launch
from experiments.settings.completion import completions
from experiments.settings.flags import from_flags

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "--config=configs/digits_cnn.py"


@pytest.mark.parametrize(
    ("words", "begun", "expected"),
    [
        ([], "sw", ["sweep"]),
        ([], "doc", ["doctor"]),
        ([], "--conf", ["--config=", "--config."]),
        ([], "--config=configs/digits_c", ["--config=configs/digits_cnn.py"]),
        ([], "--config.seed", []),  # of no config nothing is known
        ([CONFIG], "--config.se", ["--config.seed="]),
        ([CONFIG], "--config.train.nonfinite=", [f"--config.train.nonfinite={word}" for word in ("raise", "skip")]),
        ([CONFIG], "--config.train.evaluate_train=F", ["--config.train.evaluate_train=False"]),
        ([CONFIG], "--config.model.name=LeN", ["--config.model.name=LeNet5"]),
        ([CONFIG], "--config.experiment=g", ["--config.experiment=gan"]),
        ([CONFIG], "--config.no.such=", []),
        ([CONFIG], "--config.seed=", []),  # any number
        ([CONFIG, "--config.seed=x"], "--config.t", []),  # to be mended first
        (["sweep", CONFIG], "--space.optimizer.b", ["--space.optimizer.b1=", "--space.optimizer.b2="]),
        (["sweep", CONFIG], "--met", ["--method="]),
        (["sweep", CONFIG], "--method=g", ["--method=grid", "--method=gp"]),
        (["runs"], "conf", ["configs/"]),
        (["verify"], "conf", []),  # takes no words
        (["verify"], "--run=conf", ["--run=configs/"]),
        ([CONFIG], "--platform=t", ["--platform=tpu"]),
        ([CONFIG], "--smo", ["--smoke"]),
        (["cross_validate", CONFIG], "--s", []),  # neither --seeds nor --smoke
        (["sweep", CONFIG], "--se", ["--seeds="]),
    ],
)
def test_what_may_follow(words, begun, expected, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert completions(words, begun) == expected


def test_every_key_that_is_offered_can_be_set(monkeypatch):
    """Each with the value that it has already: the config stays what it was."""
    monkeypatch.chdir(ROOT)
    config = from_flags([CONFIG])[0]
    keys = [word.removesuffix("=") for word in completions([CONFIG], "--config.")]
    assert len(keys) > 40
    for key in keys:
        value = config
        for part in key.split(".")[1:]:
            value = value[part]
        assert from_flags([CONFIG, f"{key}={value}"])[0] == config


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("line", "pieces", "expected"),
    [
        ("launch.py cali", ["launch.py", "cali"], "calibrate"),
        # bash makes three words of a flag and its value, and wants the last of them back
        ("launch.py --platform=c", ["launch.py", "--platform", "=", "c"], "cpu"),
        ("launch.py --platform=", ["launch.py", "--platform", "="], "cpu gpu tpu"),
        ("other.py cali", ["other.py", "cali"], ""),
    ],
)
def test_bash_completes_by_the_script(line, pieces, expected, capsys):
    assert launch.main(["completion"]) == 0
    script = f"""{capsys.readouterr().out}
        COMP_LINE={f"{sys.executable} {line}"!r}; COMP_POINT=${{#COMP_LINE}}
        COMP_WORDS=({" ".join(map(repr, [sys.executable, *pieces]))}); COMP_CWORD={len(pieces)}
        _jaxrec; echo "${{COMPREPLY[*]}}"
    """
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
