"""How fast an exported network answers, beside the run that it comes from and beside onnxruntime.

    python benchmarks/exports.py [--configs mnist_mlp mnist_cnn cifar10_resnet20] [--rounds=15]

Runs of one step on noise are exported, with --onnx where the extra is installed. Each round asks everyone once, in
turn, for 1 image and for 256; medians are printed, and what is not installed is a dash. A call gives numpy arrays and
gets some, as in a service. What is answered is of no matter to the time.
"""

import argparse
import importlib.util
import os
import pathlib
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
BATCHES = (1, 256)
NAMES = ("jaxrec.load", "exported", "onnxruntime")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=["mnist_mlp", "mnist_cnn", "cifar10_resnet20"])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    print(f"{'':24}{'MB':>8}" + "".join(f"{f'{name}, {n}':>20}" for n in BATCHES for name in NAMES) + "   ms, medians")
    for config in args.configs:
        with tempfile.TemporaryDirectory() as folder:
            measure(config, pathlib.Path(folder), args.rounds)


def measure(config: str, folder: pathlib.Path, rounds: int) -> None:
    """Prints a network's row."""
    shape = SHAPES[config.partition("_")[0]]
    images = np.random.default_rng(0).integers(0, 256, (max(BATCHES), *shape), np.uint8)
    np.savez(folder / "data.npz", x_train=images, y_train=np.arange(len(images)) % 10)
    train = "--config.train={'batch_size': 64, 'steps': 1}"
    data = f"--config.data={{'name': 'npz', 'path': '{folder}/data.npz'}}"
    launch(f"--config=configs/{config}.py", data, train, f"--workdir={folder}/run")
    onnx = ["--onnx"] * all(map(importlib.util.find_spec, ("jax2onnx", "onnxruntime")))
    launch("export", f"--run={folder}/run", f"--out={folder}/model", *onnx)
    size = (folder / "model" / "predict.bin").stat().st_size / 1e6
    row = [medians(answerers(folder, count), images[:count], rounds) for count in BATCHES]
    cells = [f"{1e3 * found[name]:.2f}" if name in found else "-" for found in row for name in NAMES]
    print(f"{config:24}{size:8.2f}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


def answerers(folder: pathlib.Path, count: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Who answers for a batch of so many images."""
    import jaxrec

    exported = runpy.run_path(str(folder / "model" / "load.py"))["predict"]
    found = {
        "jaxrec.load": jaxrec.load(folder / "run", batch_size=count),
        "exported": lambda image: np.asarray(exported(image)),
    }
    if (folder / "model" / "predict.onnx").exists():
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "model" / "predict.onnx", providers=["CPUExecutionProvider"])
        found["onnxruntime"] = lambda image: session.run(None, {"image": image})[0]
    return found


def medians(calls: dict[str, Callable], image: np.ndarray, rounds: int) -> dict[str, float]:
    """Seconds of a call, the calls taking turns."""
    taken = {name: [] for name in calls}
    for call in calls.values():
        call(image)  # compiles
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call(image)
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def launch(*arguments: str) -> None:
    """Carries a command line out, in a process of its own."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    subprocess.run(
        [sys.executable, "launch.py", *arguments], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
    )


if __name__ == "__main__":
    main()
