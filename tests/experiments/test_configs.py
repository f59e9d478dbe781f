"""Every shipped config, shrunk, through the real launch.py."""

import pathlib
import re

import numpy as np
import pytest

import launch
from experiments.settings.flags import from_flags
from jaxrec.output.records import read

CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "configs").glob("*.py"))
# What makes a large network quick to compile; its blocks are the same.
SMALLER = {
    "AlexNet": {"width": 8, "hidden": (8,)},
    "ConvCritic": {"widths": (4, 4)},
    "ConvDecoder": {"widths": (4, 4)},
    "ConvVAE": {"widths": (4,), "hidden": (8,), "latent": 4},
    "ResNetCritic": {"width": 4},
    "ResNetDecoder": {"width": 4},
    "CCT": {"depth": 1, "width": 16},
    "ConvAutoencoder": {"widths": (4,), "latent": 4},
    "DenseAutoencoder": {"widths": (8,), "latent": 4},
    "DenseNet": {"blocks": (1, 1, 1)},
    "DenseVAE": {"widths": (8,)},
    "GoogLeNet": {"width": 8},
    "VGG": {"width": 8},
    "ViT": {"depth": 1, "width": 16, "heads": 2},
    "WideResNet": {"depth": 10, "widen": 1},
    "PreActResNet": {"blocks": (1, 1), "width": 8},
    "ResNet": {"blocks": (1, 1, 1)},
    "WhitenedCNN": {"widths": (8, 8, 8)},
}
FASTER = {"vae": {"nll_samples": 2}}  # what makes an experiment quick
SHAPES = {"mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3), "imagenet2012": (32, 32, 3)}
# `make test-slow` has them all; what networks compute, and the other kinds of learning, other tests run.
QUICK = ("digits_cnn", "mnist_mlp")


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> dict[str, str]:
    """For each TFDS set a config names, 64 images of noise in its shape: the overriding data section."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    sections = {}
    for name, shape in SHAPES.items():
        arrays = {}
        for split, count in (("train", 48), ("validation", 8), ("test", 8)):
            arrays[f"x_{split}"] = rng.integers(0, 256, (count, *shape), np.uint8)
            arrays[f"y_{split}"] = np.arange(count) % 10
        np.savez(folder / f"{name}.npz", classes=np.array(list("abcdefghij")), **arrays)
        sections[name] = f"{{'name': 'npz', 'path': '{folder / name}.npz'}}"
    return sections


@pytest.mark.parametrize(
    "file",
    [pytest.param(file, marks=() if file.stem in QUICK else pytest.mark.slow) for file in CONFIGS],
    ids=lambda file: file.stem,
)
def test_config_runs(file, stand_ins, tmp_path, capsys):
    config, _, _ = from_flags([f"--config={file}"])
    data = config["data"]
    replaced = {"tfds": data.get("dataset"), "folder": "cifar10"}.get(data["name"])
    assert data["name"] == "digits" or replaced in SHAPES, "the config's data set needs a stand-in"
    flags = [
        f"--config={file}",
        f"--workdir={tmp_path}/run",
        "--config.train.steps=2",
        "--config.train.epochs=None",
        f"--config.train.batch_size={8 * config.get('critic_steps', 1)}",
        *(
            f"--config.{section}.{key}={value}"
            for section, named in config.items()
            if isinstance(named, dict)
            for key, value in SMALLER.get(named.get("name"), {}).items()
        ),
        *(f"--config.{key}={value}" for key, value in FASTER.get(config["experiment"], {}).items()),
        *([f"--config.data={stand_ins[replaced]}"] if replaced else []),
    ]
    assert launch.main(flags) == 0, capsys.readouterr().err
    capsys.readouterr()
    (record,) = read(tmp_path / "run" / "metrics.jsonl")
    assert record["step"] == 2
    assert all(np.isfinite(value) for value in record.values())


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_config_states_its_claim(file):
    """Command, what it reaches with n and std, and on what hardware."""
    text = file.read_text().split('"""')[1]
    assert f"python launch.py --config=configs/{file.name}" in text
    assert re.search(r"\d %|\d nats|Frechet distance \d|n = 0", text)
    assert "n = " in text
    assert "cores" in text
