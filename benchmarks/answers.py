"""How long `launch.py predict` takes from the shell to the CSV, and for what.

    python benchmarks/answers.py [--pictures=10000] [--size=28] [--config=configs/mnist_cnn.py]

A run of one step answers for PNG files of noise, twice: with an empty compile cache, as on the first day, and with the
cache that this leaves. What it answers is of no matter to the time.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--config", default="configs/mnist_cnn.py")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        images = np.random.default_rng(0).integers(0, 256, (args.pictures, args.size, args.size), np.uint8)
        (folder / "pictures").mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image).save(folder / "pictures" / f"{index}.png")
        np.savez(folder / "data.npz", x_train=images[:1000], y_train=np.arange(1000) % 10)
        train = [
            f"--config={args.config}",
            f"--config.data={{'name': 'npz', 'path': '{folder}/data.npz'}}",
            "--config.train={'batch_size': 128, 'steps': 1}",
            f"--workdir={folder}/run",
        ]
        launch(train, folder / "first")
        predict = ["predict", f"--run={folder}/run", f"{folder}/pictures", f"--out={folder}/answers.csv"]
        for cache in ("empty", "filled"):
            start = time.perf_counter()
            said = launch(predict, folder / "cache").splitlines()[-1]
            print(f"compile cache {cache}: {time.perf_counter() - start:.1f} s in all; {said}")


def launch(arguments: list[str], cache: pathlib.Path) -> str:
    """What a command line says, in a process of its own."""
    command = [sys.executable, "launch.py", *arguments]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
