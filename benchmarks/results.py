"""Runs the configs that carry a claim, a run for each seed, and writes the tables of docs/results.md and README.md.

    python benchmarks/results.py [--workdir=runs/results] [--only=mnist_cnn] [--tables]

Every number comes from the runs' own result.json. Runs that are finished are not repeated, interrupted ones go on, and
--tables only writes the tables. Each seed is a process of its own, started like any user's.
"""

import argparse
import json
import pathlib
import platform
import re
import statistics
import subprocess
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]


class Claim(NamedTuple):
    """What a config is held to."""

    config: str
    seeds: int
    accuracy: float  # on the test split, at least
    seconds: float | None = None  # of training, at most


CLAIMS = [
    Claim("digits_cnn", 5, 0.985, 30),
    Claim("mnist_cnn", 3, 0.990),
    Claim("mnist_cnn_best", 1, 0.995, 300),
    Claim("cifar10_cnn", 3, 0.700),
    Claim("fashion_mnist_cnn", 3, 0.925),
    Claim("mnist_mlp", 3, 0.984),
    Claim("mnist_lenet5", 3, 0.990),
    Claim("mnist_lstm", 3, 0.988),
    Claim("mnist_irnn", 1, 0.900),  # with a GPU at hand; else that it learns
    Claim("fashion_mnist_gru", 3, 0.900),
    Claim("fashion_mnist_cct", 1, 0.930),
    Claim("fashion_mnist_wrn", 1, 0.945, 3600),
    Claim("cifar10_resnet20", 1, 0.910, 3600),
    Claim("cifar10_fast", 3, 0.930, 1500),
    Claim("cifar10_cct", 1, 0.892),
]


SPLITS = ("test", "validation")


def run(claim: Claim, workdir: pathlib.Path) -> None:
    """Carries out the runs of a claim."""
    for seed in range(claim.seeds):
        subprocess.run(
            [
                sys.executable,
                "launch.py",
                f"--config=configs/{claim.config}.py",
                f"--config.seed={seed}",
                f"--workdir={workdir / claim.config / str(seed)}",
            ],
            cwd=ROOT,
            check=True,
        )


def row(claim: Claim, workdir: pathlib.Path) -> str:
    """A line of the table, from the runs that are there."""
    folders = [workdir / claim.config / str(seed) for seed in range(claim.seeds)]
    folders = [folder for folder in folders if (folder / "result.json").exists()]
    bars = f">= {100 * claim.accuracy:.1f} %" + (f", < {claim.seconds:.0f} s" if claim.seconds else "")
    if not folders:
        return f"| `configs/{claim.config}.py` | not run yet | 0 of {claim.seeds} | | | | {bars} | | |"
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    versions = json.loads((folders[0] / "environment.json").read_text())[-1]
    accuracy, validation = ([_accuracy(result["metrics"][split]) for result in results] for split in SPLITS)
    seconds = statistics.mean(result["training_seconds"] for result in results)
    speed = statistics.mean(result["images_per_second"] for result in results)
    mean, missing = statistics.mean(accuracy), f" of {claim.seeds}" * (len(folders) < claim.seeds)
    spread = f" ± {statistics.stdev(accuracy):.2f}" if len(accuracy) > 1 else ""
    met = mean >= 100 * claim.accuracy and (claim.seconds is None or seconds < claim.seconds)
    return (
        f"| `configs/{claim.config}.py` | {mean:.2f}{spread} % | {len(folders)}{missing} | "
        f"{statistics.mean(validation):.2f} % | {seconds:,.0f} s | {speed:,.0f} | {bars} | "
        f"{'met' if met else 'MISSED'} | "
        f"{versions['devices']}, jax {versions['versions']['jax']}, Python {versions['python']} |"
    )


def _accuracy(metrics: dict[str, float]) -> float:
    """In percent; of the moving average where there is one, which then has chosen the checkpoint."""
    return 100 * metrics.get("ema_accuracy", metrics["accuracy"])


def write_table(file: pathlib.Path, lines: list[str]) -> None:
    """Puts the table between the markers of a document."""
    table = "\n".join(["<!-- results -->", *lines, "<!-- end of results -->"])
    text = re.sub(r"<!-- results -->.*<!-- end of results -->", lambda _: table, file.read_text(), flags=re.S)
    file.write_text(text)


def main() -> None:
    """Runs what is missing and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, default=ROOT / "runs" / "results")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    for claim in CLAIMS:
        if not options.tables and (not options.only or claim.config in options.only):
            run(claim, options.workdir.absolute())
    head = "config | test accuracy, mean ± std | n | validation | training | images/s | bar | | measured on"
    lines = [f"| {head} |", f"|{'---|' * (head.count('|') + 1)}"]
    lines += [row(claim, options.workdir.absolute()) for claim in CLAIMS]
    for file in ("docs/results.md", "README.md"):
        write_table(ROOT / file, lines)
    print(*lines, f"\nmachine: {platform.machine()}, {platform.system()}", sep="\n")


if __name__ == "__main__":
    main()
