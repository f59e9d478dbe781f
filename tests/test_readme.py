"""The README's code runs, and its two commands lead where they say; tests/test_pages.py has the rest."""

import csv
import html
import io
import json
import pathlib
import re
import shlex

import numpy as np
import pytest
from rich.console import Console
from rich.live import Live
from rich.text import Text

import launch
from benchmarks.recording import draw, screen

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_notebook_example_learns(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    names: dict = {}
    exec(compile(code.replace("steps=300", "steps=100"), "README.md", "exec"), names)
    assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) <= 15
    assert names["program"].evaluate(names["state"], names["test"])["accuracy"] > 0.8
    capsys.readouterr()


@pytest.mark.filterwarnings("ignore:.*are in train as well")  # black corners of the retina
def test_two_commands_lead_from_a_folder_of_pictures_to_a_csv(tmp_path, monkeypatch):
    """On small crops of the photographs that come with scikit-learn and scikit-image, and a tiny network."""
    from benchmarks.photographs import crops

    crops(tmp_path / "photos", per_class=20, size=16)
    (block,) = re.findall(r"```\n(python benchmarks/photographs\.py crops.*?)```", README, re.S)
    train, predict = (shlex.split(line)[2:] for line in block.splitlines()[1:])
    monkeypatch.chdir(tmp_path)
    train = [word.replace("=configs", f"={ROOT}/configs") for word in train]
    smaller = ["data.size=16", "augment=()", "train.epochs=None", "train.steps=100"]
    smaller += ["model={'name': 'MLP', 'widths': (32,)}"]
    assert launch.main([*train, *(f"--config.{word}" for word in smaller)]) == 0
    assert launch.main(predict) == 0
    with open("predictions.csv", newline="") as opened:
        rows = list(csv.DictReader(opened))
    right = [pathlib.Path(row["path"]).parent.name == row["class"] for row in rows]
    measured = json.loads(pathlib.Path("runs/photos/result.json").read_text())["metrics"]["test"]["accuracy"]
    assert len(rows) == 12 * 8
    assert np.mean(right) == measured > 0.3
    assert "class_3" in rows[0]


def test_a_recording_has_each_line_once_however_often_it_was_redrawn():
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=60)
    with Live(Text("step 0"), console=console, auto_refresh=False) as live:
        for step in (1, 2):
            live.update(Text(f"step {step}"), refresh=True)
            console.print(f"row {step}", highlight=False)
    assert [line.rstrip() for line in screen(written.getvalue())] == ["row 1", "row 2", "step 2", ""]
    assert "row 2" in html.unescape(draw(["row 2"], 60, "title")).replace("\xa0", " ")
