"""Each kind of learning on a stream, through the launcher: the numbers of the same pictures held in memory."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import launch

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {
    "digits_cnn": ("--config.model.widths=(4,)", "--config.model.hidden=(8,)"),
    "digits_autoencoder": ("--config.model.widths=(16,)",),
    "digits_vae": ("--config.model.widths=(16,)", "--config.nll_samples=2"),
    "digits_gan": ("--config.generator.widths=(4, 4)", "--config.discriminator.widths=(4, 4)"),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> pathlib.Path:
    """160 digits as PNG files, a folder for each class."""
    folder, digits = tmp_path_factory.mktemp("digits"), load_digits()
    for index in range(160):
        file = folder / str(digits.target[index]) / f"{index}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(np.uint8(digits.images[index] * 15)).save(file)
    return folder


# Two programs or more are compiled for each; tests/data/test_streaming.py has the quick form.
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if name == "digits_gan" else pytest.mark.slow) for name in SMALL],
)
def test_a_stream_gives_the_numbers_of_the_array(name, pictures, tmp_path, capsys):
    results = []
    for stream in (True, False):
        data = {"name": "folder", "path": str(pictures), "channels": 1, "stream": stream}
        flags = [
            f"--config={ROOT}/configs/{name}.py",
            f"--workdir={tmp_path}/{stream}",
            f"--config.data={data}",
            "--config.train.steps=12",
            "--config.train.epochs=None",
            "--config.train.batch_size=16",
            "--config.train.log_every=4",
            *SMALL[name],
        ]
        assert launch.main(flags) == 0, capsys.readouterr().err
        result = json.loads((tmp_path / str(stream) / "result.json").read_text())
        assert result["data_wait_seconds"] >= 0
        records = (tmp_path / str(stream) / "metrics.jsonl").read_text().splitlines()
        results.append([result["metrics"], *map(json.loads, records)])
    _same(*results)


def _same(one, other) -> None:
    """Equal but for rounding: two programs, of which one is given images and one gathers them."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list):
        for left, right in zip(one, other, strict=True):
            _same(left, right)
    else:
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
