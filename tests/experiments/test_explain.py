"""launch.py explain: what it writes for a run, and what it refuses."""

import csv
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

import launch
from experiments.commands.explain import areas_of
from experiments.explained import Subject, subject_of
from experiments.settings.make import make
from experiments.settings.specs import ModelSpec

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ["--config.train.batch_size=64", "--config.train.epochs=None"]


def rows_of(file: pathlib.Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    model = "--config.model={'name': 'CNN', 'widths': (16,), 'hidden': (), 'padding': 'SAME'}"
    flags = [f"--config={ROOT}/configs/digits_cnn.py", *SMALL, model, "--config.train.steps=150"]
    assert launch.main([*flags, f"--workdir={folder}"]) == 0
    return folder


def test_the_files_hold_what_is_known_of_the_mistakes(run, digits, capsys):
    flags = ["--count=4", "--methods=integrated_gradients,grad_cam", "--neighbours=2"]
    assert launch.main(["explain", f"--run={run}", *flags]) == 0
    assert "4 images by step 150" in capsys.readouterr().out
    file = run / "explain_test_wrong"
    with np.load(file.with_suffix(".npz")) as found:
        arrays = dict(found)
    rows = rows_of(file.with_suffix(".csv"))
    ids = np.array([int(row["image"]) for row in rows])
    assert len(ids) == 4
    assert set(ids) <= set(digits.splits["test"])
    np.testing.assert_array_equal(arrays["image"], digits.image[ids])
    np.testing.assert_array_equal(arrays["label"], digits.label[ids])
    assert all(row["class"] != row["label"] for row in rows)
    assert [int(row["class"]) for row in rows] == arrays["logits"].argmax(-1).tolist()
    sure = [float(row["probability"]) for row in rows]
    assert sure == sorted(sure, reverse=True)
    assert arrays["grad_cam"].shape == arrays["integrated_gradients"].shape == (4, 8, 8)
    assert set(arrays["nearest"].ravel()) <= set(digits.splits["train"])
    assert [int(row["nearest_2"]) for row in rows] == arrays["nearest"][:, 1].tolist()
    with Image.open(file.with_suffix(".png")) as picture:
        assert min(picture.size) > 400


@pytest.mark.slow
def test_maps_are_better_than_none(run):
    flags = ["--pick=random", "--count=32", "--methods=integrated_gradients", "--neighbours=0"]
    assert launch.main(["explain", f"--run={run}", *flags, "--split=validation"]) == 0
    rows = rows_of(run / "explain_validation_random.csv")
    mean = {name: np.mean([float(row[name]) for row in rows]) for name in rows[0] if "tion_" in name}
    assert mean["deletion_integrated_gradients"] < mean["deletion_random"]
    assert mean["insertion_integrated_gradients"] > mean["insertion_random"]


def test_pictures_are_explained_without_the_data(run, digits, tmp_path, monkeypatch):
    Image.fromarray(digits.image[0, ..., 0]).save(tmp_path / "0.png")
    monkeypatch.setattr("experiments.commands.explain.images_of", lambda *_, **__: pytest.fail("the data were read"))
    words = [str(tmp_path / "0.png"), "--methods=gradient", "--neighbours=0", f"--out={tmp_path}/why"]
    assert launch.main(["explain", f"--run={run}", *words]) == 0
    (row,) = rows_of(tmp_path / "why.csv")
    assert row["image"] == words[0]
    assert "label" not in row
    assert (tmp_path / "why.png").stat().st_size > 1000


def test_bad_input_is_one_line(run, tmp_path, capsys):
    here = f"--run={run}"
    for words, said in [
        (["--run=nowhere"], "--run = 'nowhere'"),
        ([here, "--methods=gradcam"], "this network has no 'gradcam'. Did you mean 'grad_cam'?"),
        ([here, "--layer=Conv_7", "--methods=grad_cam", "--pick=random"], "layer = 'Conv_7' gives no feature map"),
        ([here, "--pick=best"], "explain.pick = 'best': allowed is 'wrong', 'confident', 'random'"),
        ([here, f"{tmp_path}/none.png"], "no such file or folder"),
        ([here, f"--out={tmp_path}/no/where"], "cannot be written"),
    ]:
        capsys.readouterr()
        assert launch.main(["explain", *words]) == 2, words
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("launch.py: "), line
        assert said in line, line


@pytest.mark.parametrize(
    ("model", "own"),
    [
        ({"name": "CNN", "widths": (2,), "hidden": ()}, {"grad_cam"}),
        ({"name": "MLP", "widths": (4,)}, set()),
        ({"name": "RNN", "hidden": 4}, {"row_by_row"}),
        ({"name": "ViT", "patch": 4, "width": 4, "depth": 1, "heads": 1, "mlp": 4}, {"rollout"}),
        ({"name": "CCT", "width": 4, "depth": 1, "heads": 1}, {"rollout", "grad_cam"}),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_a_network_has_the_maps_that_it_can_have(model, own):
    """Nothing is computed. An image that is scaled is no feature map."""
    network = make(ModelSpec, model)(classes=3)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32), train=False))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes["params"])
    notes = {"classes": "abc", "shape": (8, 8, 1), "mean": [0.1], "std": [0.3], "several": False}
    config = {"experiment": "classify", "model": model, "loss": {"name": "softmax_cross_entropy"}}
    subject = subject_of(config, notes, {"params": params, "extra": {}}, 0)
    assert set(subject.maps) == {"gradient", "smoothgrad", "integrated_gradients", "occlusion", *own}


def test_pixels_that_are_covered_by_themselves_change_no_answer():
    """And by the baseline, a mean of 0, one pixel after the other takes its share of the logit away."""

    def answers(image: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": image.sum((1, 2))}

    subject = Subject(0, answers, {}, probabilities=lambda logits: logits, baseline=np.zeros((1, 1, 1, 1), np.float32))
    image = np.arange(1, 33, dtype=np.float32).reshape(1, 8, 4, 1)
    target, heat = np.zeros(1, np.int32), image[..., 0]
    itself = areas_of(subject, lambda image: image)(image, target, heat)
    assert itself["deletion"] == itself["insertion"] == pytest.approx(image.sum())
    left = image.sum() - np.concatenate([[0], np.cumsum(np.arange(32, 0, -1))])  # the hottest are covered first
    assert areas_of(subject)(image, target, heat)["deletion"] == pytest.approx(np.trapezoid(left) / 32)


@pytest.mark.long
@pytest.mark.parametrize(
    ("config", "flags", "expected"),
    [
        ("digits_autoencoder", ["--config.train.steps=2"], {"squared_error", "reconstruction"}),
        ("digits_vae", ["--config.train.steps=2", "--config.nll_samples=2"], {"squared_error", "reconstruction"}),
        (
            "digits_cnn",
            [
                "--config.train.steps=2",
                "--config.model={'name': 'ViT', 'patch': 2, 'width': 8, 'depth': 1, 'heads': 2}",
            ],
            {"rollout", "occlusion", "smoothgrad", "gradient", "integrated_gradients"},
        ),
        (
            "digits_cnn",
            ["--config.train.steps=2", "--config.model={'name': 'CCT', 'width': 8, 'depth': 1, 'heads': 2}"],
            {"rollout", "grad_cam"},
        ),
        ("digits_cnn", ["--config.train.steps=2", "--config.model={'name': 'RNN', 'hidden': 8}"], {"row_by_row"}),
    ],
    ids=["autoencoder", "vae", "vit", "cct", "rnn"],
)
def test_every_kind_of_network_is_explained_without_naming_layers(config, flags, expected, tmp_path):
    folder = tmp_path / "run"
    assert launch.main([f"--config={ROOT}/configs/{config}.py", *SMALL, *flags, f"--workdir={folder}"]) == 0
    assert launch.main(["explain", f"--run={folder}", "--pick=random", "--count=2", "--neighbours=1"]) == 0
    with np.load(folder / "explain_test_random.npz") as found:
        assert set(found) >= expected
        assert all(np.isfinite(found[name]).all() for name in expected)
