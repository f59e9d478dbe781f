"""What a finished run leaves behind and shows."""

import csv
import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxrec import metrics
from jaxrec.engine.hooks import Speed
from jaxrec.output import report

CLASSES = ("cat", "dog, wild", "frog")
HEADLINE = ("loss", "accuracy", "ema_accuracy", "f1_macro", "auc", "ece")


def measured(classes: int = 3, examples: int = 60) -> dict[str, float | np.ndarray]:
    """The metrics of a split as `Program.evaluate` gives them."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, classes, examples)
    logits = (rng.normal(size=(examples, classes)) + 2 * np.eye(classes)[label]).astype(np.float32)
    batch = {"label": label, "mask": np.ones(examples, bool)}
    values = {"loss": np.full(examples, 0.25, np.float32), "accuracy": np.float32(logits.argmax(-1) == label)}
    return metrics.compute([{**metrics.means(values, batch["mask"]), **metrics.predictions(logits, batch)}])


def write(workdir, splits, notes=None):
    notes = {"classes": CLASSES} if notes is None else notes
    speed = Speed({"speed/examples": 1000, "speed/seconds": 2.0})
    report.write(workdir, step=5, metrics=splits, headline=HEADLINE, speed=speed, notes=notes)


def table(file) -> list[list[str]]:
    with file.open(newline="") as opened:
        return list(csv.reader(opened))


def shown(workdir, capsys, monkeypatch, **options) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    assert report.show(workdir, **options) == 0
    return capsys.readouterr().out


def test_numbers_go_to_result_json(tmp_path):
    result = measured()
    write(tmp_path, {"validation": result, "test": {**result, "auc": math.nan}})
    text = (tmp_path / "result.json").read_text()
    assert "NaN" not in text  # no JSON
    written = json.loads(text)
    numbers = {name: value for name, value in result.items() if name not in ("confusion", "per_class")}
    assert written == {
        "step": 5,
        "metrics": {"validation": numbers, "test": {**numbers, "auc": None}},
        "headline": list(HEADLINE),
        "images_per_second": 500.0,
        "examples": 1000,
        "training_seconds": 2.0,
        "data_wait_seconds": 0,
        "notes": {"classes": list(CLASSES)},
    }


def test_tables_by_class_name_the_classes_and_hold_the_numbers(tmp_path):
    result = measured()
    write(tmp_path, {"test": result})
    head, *rows = table(tmp_path / "confusion_test.csv")
    assert head == ["true class", *CLASSES]
    assert [row[0] for row in rows] == list(CLASSES)
    np.testing.assert_array_equal([[int(count) for count in row[1:]] for row in rows], result["confusion"])
    head, *rows = table(tmp_path / "per_class_test.csv")
    assert head == ["class", "precision", "recall", "f1", "examples"]
    assert [row[0] for row in rows] == list(CLASSES)
    np.testing.assert_array_equal([[float(value) for value in row[1:]] for row in rows], result["per_class"])
    assert [int(row[-1]) for row in rows] == result["confusion"].sum(axis=1).tolist()
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("splits", "chosen"),
    [(("train", "validation", "test"), "test"), (("train", "validation"), "validation"), (("train",), None)],
)
def test_tables_are_of_the_test_split_or_else_of_validation(tmp_path, splits, chosen):
    write(tmp_path, {split: measured() for split in splits})
    found = {file.name for pattern in ("confusion_*", "per_class_*") for file in tmp_path.glob(pattern)}
    wanted = {f"confusion_{chosen}.csv", f"confusion_{chosen}.png", f"per_class_{chosen}.csv"}
    assert found == (wanted if chosen else set())


def test_classes_without_names_have_numbers(tmp_path):
    write(tmp_path, {"test": measured()}, notes={})
    assert table(tmp_path / "confusion_test.csv")[0] == ["true class", "0", "1", "2"]


@pytest.mark.parametrize(("classes", "written"), [(3, True), (20, True), (21, False), (101, False)])
def test_the_picture_has_counts_in_the_cells_of_few_classes(tmp_path, monkeypatch, classes, written):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **options: figures.append((self, file)))
    result = measured(classes)
    write(tmp_path, {"test": result}, notes={"classes": [f"class {index}" for index in range(classes)]})
    ((figure, file),) = figures
    assert file == tmp_path / "confusion_test.png"
    axes = figure.axes[0]
    texts = {tuple(map(int, text.get_position()[::-1])): int(text.get_text()) for text in axes.texts}
    counts = {tuple(map(int, cell)): result["confusion"][tuple(cell)] for cell in np.argwhere(result["confusion"])}
    assert texts == (counts if written else {})
    shares = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shares.sum(axis=1), (result["confusion"].sum(axis=1) > 0).astype(float))
    assert ("class 0" in [label.get_text() for label in axes.get_yticklabels()]) == (classes <= 100)


def test_the_picture_is_a_png_even_of_a_class_without_examples(tmp_path):
    write(tmp_path, {"test": {"confusion": np.array([[3, 1], [0, 0]])}}, notes={"classes": ["a", "b"]})
    assert (tmp_path / "confusion_test.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_shows_what_matters_and_says_where_the_rest_is(tmp_path, capsys, monkeypatch):
    result = measured(classes=6)
    write(tmp_path, {"validation": result, "test": {**result, "ema_accuracy": 0.5, "auc": math.nan}}, notes={})
    text = shown(tmp_path, capsys, monkeypatch)
    assert max(map(len, text.partition("└")[0].splitlines())) <= 80
    head, validation, test = (line for line in text.splitlines() if line[:1] in "┃│" and line)
    assert head.replace("┃", " ").split() == [*("split", "loss", "accuracy", "ema_accuracy", "f1_macro", "auc", "ece")]
    accuracy, others = (
        f"{100 * result['accuracy']:.2f} %",
        {name: f"{result[name]:.4f}" for name in ("f1_macro", "ece")},
    )
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in (validation, test)]
    assert cells[0] == [
        "validation",
        "0.2500",
        accuracy,
        "-",
        others["f1_macro"],
        f"{result['auc']:.4f}",
        others["ece"],
    ]
    assert cells[1] == ["test", "0.2500", accuracy, "50.00 %", others["f1_macro"], "-", others["ece"]]
    assert (
        "precision_macro, recall_macro, f1_micro, f1_weighted, top_5: see result.json; "
        "by class: confusion_test.csv, confusion_test.png, per_class_test.csv\n"
    ) in text


def test_the_table_of_few_metrics_shows_them_all(tmp_path, capsys, monkeypatch):
    write(tmp_path, {"test": {"loss": 0.5, "kl": 0.25}}, notes={})
    text = shown(tmp_path, capsys, monkeypatch, note="Done before.")
    assert "kl" in text
    assert "0.2500" in text
    assert "see result.json" not in text
    assert f"Done before. The run: {tmp_path}" in text
    assert "500 images/s, 0:00:02 of training" in text
