"""What a recogniser gets wrong, of planted answers: tables, pictures, and what is said."""

import csv
import pathlib
import types

import numpy as np
import pytest

import launch
from experiments.commands import mistakes as command
from experiments.sides import Answers
from jaxrec.data.batches import Dataset

CLASSES = ("ant", "bee", "cat")


def rows_of(file: pathlib.Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture
def planted(monkeypatch) -> Answers:
    """Thirty sure answers, of which 4 are wrong: bee for ant thrice, each less sure, and cat for bee."""
    label = np.arange(30) % 3
    logits = 6.0 * np.eye(3)[label]
    for place, surety in ((0, 7.0), (3, 6.0), (6, 5.0)):
        logits[place] = [0, surety, 0]
    logits[1] = [0, 1.0, 1.5]
    image = np.zeros((100, 4, 4, 1), np.uint8)
    evaluation = types.SimpleNamespace(
        notes={"classes": CLASSES}, several=False, dataset=Dataset({"image": image, "label": label}, {}, CLASSES)
    )
    answers = Answers(pathlib.Path(), evaluation, logits, label, np.arange(30) + 50)
    monkeypatch.setattr(command, "_answers", lambda run, split: answers)
    return answers


def test_tables_hold_losses_pairs_and_suspected_labels(planted, tmp_path, capsys):
    assert launch.main(["mistakes", f"--run={tmp_path}", "--count=5", f"--out={tmp_path}/m"]) == 0
    worst = rows_of(tmp_path / "m.csv")
    assert [row["id"] for row in worst[:4]] == ["50", "53", "56", "51"]
    assert len(worst) == 5
    assert (worst[0]["label"], worst[0]["answer"]) == ("ant", "bee")
    of_label = np.exp(0) / (np.exp(7) + 2)
    assert float(worst[0]["probability of label"]) == pytest.approx(of_label, rel=1e-3)
    assert float(worst[0]["loss"]) == pytest.approx(-np.log(of_label), rel=1e-3)
    pairs = rows_of(tmp_path / "m_pairs.csv")
    assert [(row["label"], row["answer"], row["count"]) for row in pairs] == [("ant", "bee", "3"), ("bee", "cat", "1")]
    assert pairs[0]["ids"] == "50 53 56"
    assert float(pairs[0]["share of label"]) == 0.3
    suspected = rows_of(tmp_path / "m_labels.csv")
    assert [(row["id"], row["seems"]) for row in suspected] == [("50", "bee"), ("53", "bee"), ("56", "bee")]
    assert all((tmp_path / f"m{ending}.png").exists() for ending in ("", "_pairs", "_labels"))
    said = capsys.readouterr().out
    assert "30 examples, 4 of them wrong" in said
    assert "ant taken for bee 3" in said
    assert "3 labels are likely errors" in said


def test_no_label_is_suspected_by_a_network_that_has_learned_it(planted, tmp_path, capsys):
    assert launch.main(["mistakes", f"--run={tmp_path}", "--split=train"]) == 0
    assert not (tmp_path / "mistakes_train_labels.csv").exists()
    assert "has learned them" in capsys.readouterr().out


def test_a_network_without_a_mistake_has_no_pairs(planted, tmp_path, monkeypatch):
    right = planted._replace(logits=6.0 * np.eye(3)[planted.label])
    monkeypatch.setattr(command, "_answers", lambda run, split: right)
    assert launch.main(["mistakes", f"--run={tmp_path}"]) == 0
    assert rows_of(tmp_path / "mistakes_test_pairs.csv") == rows_of(tmp_path / "mistakes_test_labels.csv") == []
    assert not (tmp_path / "mistakes_test_pairs.png").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda answers: answers.logits.fill(np.nan), "has diverged"),
        (lambda answers: setattr(answers.evaluation, "several", True), "several labels each"),
    ],
)
def test_what_cannot_be_said_is_refused(planted, change, said, tmp_path, capsys):
    change(planted)
    assert launch.main(["mistakes", f"--run={tmp_path}"]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert launch.main(["mistakes", f"--run={tmp_path}/none"]) == 2
    assert "no run is there" in capsys.readouterr().err


def test_the_test_split_of_a_run_that_goes_on_is_not_read(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert launch.main(["mistakes", f"--run={tmp_path}"]) == 2
    assert "is not finished, and test is read once, after training" in capsys.readouterr().err
