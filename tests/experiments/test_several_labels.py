"""A set of images with several labels each, from the file to the tables that a run leaves behind."""

import csv
import json
import pathlib
import re

import jax
import numpy as np
import pytest

import launch
from experiments.experiment import prepare
from experiments.settings.flags import from_flags

CONFIG = f"--config={pathlib.Path(__file__).parents[2]}/configs/digits_cnn.py"
SMALL = ("train.epochs=None", "train.steps=150", "train.batch_size=32", "model={'name': 'MLP', 'widths': (32,)}")
CORNERS = ("top left", "top right", "bottom left")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Noise in which any of three corners may be lit, each in an image of three: the data section of the config."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("sets") / "corners.npz"
    arrays = {}
    for split, examples in (("train", 400), ("test", 200)):
        label = rng.random((examples, 3)) < 1 / 3
        image = rng.normal(90, 40, (examples, 8, 8))
        image[:, :4, :4] += 60 * label[:, 0, None, None]
        image[:, :4, 4:] += 60 * label[:, 1, None, None]
        image[:, 4:, :4] += 60 * label[:, 2, None, None]
        arrays |= {f"x_{split}": image.clip(0, 255).astype(np.uint8), f"y_{split}": label.astype(np.uint8)}
    np.savez(path, classes=np.array(CORNERS), **arrays)
    return f"data={{'name': 'npz', 'path': '{path}'}}"


def run(workdir, *flags: str) -> int:
    return launch.main([CONFIG, *(f"--config.{flag}" for flag in (*SMALL, *flags)), f"--workdir={workdir}"])


def test_a_run_on_several_labels_learns_them_and_reports_them(data, tmp_path, capsys):
    flags = ("loss={'name': 'binary_cross_entropy'}", "updates.ema=0.9", "monitor=f1_macro")
    assert run(tmp_path / "run", data, *flags) == 0, capsys.readouterr().err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    test = result["metrics"]["test"]
    # Guessing everything has a precision of 1/3 and so an F1 of 1/2; an exact match by chance is one of 2/3 cubed.
    assert test["ema_f1_macro"] > 0.9
    assert test["ema_mean_average_precision"] > 0.95
    assert test["ema_exact_match"] > 0.8
    assert test["accuracy"] == pytest.approx(1 - test["hamming_loss"], abs=1e-6)
    # A third of each class is lit, so that the loss of knowing nothing is the entropy of that, 0.64 nats.
    assert test["loss"] < 0.3

    with (tmp_path / "run" / "per_class_test.csv").open(newline="") as opened:
        head, *rows = csv.reader(opened)
    assert head == ["class", "precision", "recall", "f1", "examples", "average_precision"]
    assert [row[0] for row in rows] == list(CORNERS)
    with np.load(data.partition("'path': '")[2].rstrip("'}")) as arrays:
        assert [int(row[4]) for row in rows] == arrays["y_test"].sum(0).tolist()
    for column, name in ((3, "ema_f1_macro"), (5, "ema_mean_average_precision")):
        np.testing.assert_allclose(np.mean([float(row[column]) for row in rows]), test[name], rtol=1e-9)
    assert not list((tmp_path / "run").glob("confusion*"))
    shown = capsys.readouterr().out
    assert "mean_average_preci" in shown or "mean_average_precision" in shown
    assert "by class: per_class_test.csv" in shown


def test_images_of_several_labels_can_be_mixed(data):
    flags = (data, *SMALL, "loss={'name': 'binary_cross_entropy'}", "mix={'name': 'mixup'}")
    experiment, _, _ = prepare(from_flags([CONFIG, *(f"--config.{flag}" for flag in flags)])[0])
    batch = jax.eval_shape(experiment.train.fetch, experiment.train.resident, experiment.train.host(0))
    assert batch["other_label"].shape == batch["label"].shape == (32, 3)
    key = jax.eval_shape(lambda: jax.random.key(0))
    _, measured = jax.eval_shape(
        experiment.task.train_step, jax.eval_shape(experiment.task.init, key, batch), batch, key
    )
    assert measured.keys() == {"loss", "accuracy", "gradient"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            (),
            r"takes one label for each image, \[32\]; the batch's 'label' is int32\[32, 3\]. .* losses.binary",
        ),
        (("loss={'name': 'hinge'}",), "for several labels of an image use losses.binary_cross_entropy"),
    ],
    ids=["softmax_cross_entropy", "hinge"],
)
def test_a_loss_of_one_label_refuses_several(data, flags, said, tmp_path, capsys):
    assert run(tmp_path / "run", data, *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(said, line)


def test_what_is_of_several_labels_refuses_one(tmp_path, capsys):
    for flag, said in (
        ("monitor=exact_match", "config.monitor = 'exact_match' needs several labels for each image"),
        ("loss={'name': 'binary_cross_entropy'}", "For one label of an image use losses.softmax_cross_entropy."),
        ("monitor=f1_samples", "'f1_samples'"),
    ):
        assert run(tmp_path / "run", flag) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
