"""The experiment on reconstruction through the launcher, and a recogniser that starts from its encoder."""

import json
import pathlib

import numpy as np
import pytest

import launch
from experiments.images import in_turn
from experiments.settings.flags import from_flags
from jaxrec.data.batches import Dataset
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.models.autoencoders import DenseAutoencoder
from jaxrec.output.records import read

ROOT = pathlib.Path(__file__).parents[2]
WIDTHS, LATENT = (9, 7), 5
DIGITS = f"--config={ROOT}/configs/digits_autoencoder.py"
RUN = (
    "--config.train.epochs=None",
    "--config.train.steps=6",
    "--config.train.batch_size=64",
    "--config.train.log_every=3",
    "--config.train.eval_every=3",
)


@pytest.fixture(scope="module")
def denoised(tmp_path_factory) -> pathlib.Path:
    """A short run that undoes noise, with a moving average."""
    folder = tmp_path_factory.mktemp("runs") / "denoised"
    flags = [
        f"--config.model.widths={WIDTHS}",
        f"--config.model.latent={LATENT}",
        "--config.corrupt=[{'name': 'masking', 'share': 0.5}]",
        "--config.augment=[{'name': 'random_translation', 'share': 0.1}]",
        "--config.updates.ema=0.5",
    ]
    assert launch.main([DIGITS, *RUN, *flags, f"--workdir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def average(denoised) -> dict:
    """The parameters of the run's moving average at its last step."""
    with Checkpoints(denoised / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.read(json.loads((denoised / "result.json").read_text())["step"])["extra"]["ema"]["params"]


def metrics_of(folder: pathlib.Path) -> dict[str, dict[str, float]]:
    return json.loads((folder / "result.json").read_text())["metrics"]


def test_codes_are_those_of_clean_images_and_of_the_average(denoised, average, digits: Dataset):
    """Their error is measured apart from that of corrupted inputs, which is larger at the same targets."""
    image = digits.image[digits.splits["test"]] / np.float32(255)
    model = DenseAutoencoder(shape=(8, 8, 1), widths=WIDTHS, latent=LATENT, activation="gelu")
    logits = model.apply({"params": average}, image, train=False)["logits"]
    error = ((1 / (1 + np.exp(-np.asarray(logits))) - image) ** 2).sum((1, 2, 3)).mean()
    found = metrics_of(denoised)["test"]
    np.testing.assert_allclose(found["clean_squared_error"], error, rtol=1e-4)
    assert abs(found["ema_squared_error"] - error) > 1e-4
    np.testing.assert_allclose(found["squared_error_per_pixel"] * 64, found["squared_error"], rtol=1e-4)


def test_principal_components_are_of_the_train_split(denoised, digits: Dataset):
    train, test = (digits.image[digits.splits[split]].reshape(-1, 64) / 255 for split in ("train", "test"))
    mean = train.mean(0)
    directions = np.linalg.svd(train - mean, full_matrices=False)[2][:LATENT]
    error = (((test - mean) - (test - mean) @ directions.T @ directions) ** 2).sum(1).mean()
    found = metrics_of(denoised)
    np.testing.assert_allclose(found["test"]["pca_squared_error"], error, rtol=1e-4)
    names = {f"{prefix}{name}_accuracy" for prefix in ("", "pca_") for name in ("probe", "knn")}
    for split in ("validation", "test"):
        assert names <= set(found[split])
        assert found[split]["pca_probe_accuracy"] > 0.6
    assert not names & set(found["train"])


def test_similarity_is_measured_in_evaluation_alone(denoised):
    records = list(read(denoised / "metrics.jsonl"))
    assert [record["step"] for record in records] == [3, 6]
    assert all({"validation/ssim", "validation/psnr", "validation/ema_ssim"} <= set(record) for record in records)
    assert not {"train/ssim", "train/psnr"} & {*records[0], *records[1]}


def test_pictures_are_drawn(denoised):
    names = {path.name for path in denoised.glob("*.png")}
    assert {"reconstructions_validation.png", "reconstructions_test.png", "codes.png", "filters.png"} <= names


def test_images_are_stored_in_the_unit_range(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "wide.npz", x_train=rng.normal(size=(40, 4, 4)), y_train=np.arange(40) % 2)
    data = f"--config.data={{'name': 'npz', 'path': '{tmp_path}/wide.npz'}}"
    assert launch.main([DIGITS, *RUN, data, f"--workdir={tmp_path}/r"]) == 2
    assert "An autoencoder takes images in [0, 1]" in capsys.readouterr().err


def recogniser(denoised: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """A run on twenty labels that starts from the encoder and keeps all of it but the output layer."""
    return [
        f"--config={ROOT}/configs/digits_cnn.py",
        *RUN,
        f"--config.model={{'name': 'MLP', 'widths': {WIDTHS}, 'activation': 'gelu'}}",
        f"--config.train.init_from={denoised}",
        "--config.train.batch_size=16",
        "--config.standardise=False",
        "--config.train_images=20",
        f"--workdir={folder}",
    ]


def test_an_encoder_becomes_the_body_of_a_recogniser(denoised, average, tmp_path, capsys):
    flags = [
        "--config.train.submodule=encoder",
        "--config.train.reinit=^Dense_2/",
        "--config.updates.freeze=^Dense_[01]/",
    ]
    assert launch.main([*recogniser(denoised, tmp_path / "body"), *flags]) == 0
    said = capsys.readouterr().out
    assert "its moving average, submodule encoder: 4 arrays loaded; fresh: Dense_2/bias, Dense_2/kernel" in said
    with Checkpoints(tmp_path / "body" / "checkpoints", read_only=True) as checkpoints:
        params = checkpoints.read(6)["params"]
    for layer in ("Dense_0", "Dense_1"):
        np.testing.assert_array_equal(params[layer]["kernel"], average["encoder"][layer]["kernel"])
    result = json.loads((tmp_path / "body" / "result.json").read_text())
    assert (result["notes"]["mean"], result["notes"]["std"]) == ([0.0], [1.0])  # as the encoder has seen images


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.train.submodule=encodr"], "submodule = 'encodr': that run's network has the submodules decoder"),
        ([], "6 arrays are missing in that run"),
        (
            ["--config.train.submodule=encoder", "--config.train.init_from=None"],
            "train.init_from starts from: set both",
        ),
        (["--config.train_images=100000"], "config.train_images = 100000: the train split has 1293 images"),
    ],
)
def test_bad_input_is_one_line(denoised, tmp_path, capsys, flags, message):
    assert launch.main([*recogniser(denoised, tmp_path / "r"), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_classes_take_turns():
    label = np.array([2, 0, 0, 1, 0, 2, 2])
    order = in_turn(np.array([6, 5, 4, 3, 2, 1]), label)
    np.testing.assert_array_equal(label[order], [0, 1, 2, 0, 2, 0])
    np.testing.assert_array_equal(order, [4, 3, 6, 2, 5, 1])


def test_few_labels_are_balanced_and_drawn_by_the_seed():
    from experiments.experiment import prepare

    def drawn(labels, seed=0):
        flags = [f"train_images={labels}", f"seed={seed}", "train.batch_size=16"]
        flags = [f"--config={ROOT}/configs/digits_cnn.py", *(f"--config.{flag}" for flag in flags)]
        experiment, _, _ = prepare(from_flags(flags)[0])
        rows = [experiment.train.host(step)["id"] for step in range(experiment.train.per_pass)]
        assert experiment.train.examples == labels
        return np.concatenate(rows)[:labels], experiment.train.resident["label"]

    ids, label = drawn(53)
    assert len(set(ids)) == 53
    np.testing.assert_array_equal(np.bincount(label[ids]), [6] * 3 + [5] * 7)
    assert set(ids) == set(drawn(53)[0]) != set(drawn(53, seed=1)[0])
    assert set(ids) < set(drawn(200)[0])
