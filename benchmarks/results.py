"""Runs the configs that carry a claim, a run for each seed, and writes the tables of docs/results.md and README.md.

    python benchmarks/results.py [--workdir=runs/results] [--only=mnist_cnn] [--tables]

Every number comes from the runs' own result.json. Runs that are finished are not repeated, interrupted ones go on, and
--tables only writes the tables, in which a row without a finished run keeps what it says. Each seed is a process of its
own, started like any user's.
"""

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]


class Claim(NamedTuple):
    """What a config is held to."""

    config: str
    seeds: int
    accuracy: float  # on the test split, at least
    seconds: float | None = None  # of training, at most
    overrides: tuple[str, ...] = ()  # where it is not the config as it stands; {workdir} holds the other runs


CLAIMS = [
    Claim("digits_cnn", 10, 0.995, 30),
    Claim("mnist_cnn", 3, 0.990),
    Claim("mnist_cnn_best", 1, 0.995, 300),
    Claim("cifar10_cnn", 3, 0.700),
    Claim("fashion_mnist_cnn", 3, 0.925),
    Claim("fashion_mnist_quick", 3, 0.935, 300),
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


class Measure(NamedTuple):
    """A number of the test split that a config of another kind is held to."""

    config: str
    seeds: int
    what: str
    of: Callable[[dict[str, float]], float]  # metrics of the test split -> the number
    beside: Callable[[dict[str, float]], str]  # what it is to be read beside, of the same run
    limit: float
    at_most: bool = True
    overrides: tuple[str, ...] = ()  # as of a Claim


def _pca(test: dict[str, float]) -> str:
    return f"PCA {test['pca_squared_error']:.2f}"


def _share(test: dict[str, float]) -> float:
    return test["squared_error"] / test["pca_squared_error"]


def _gain(test: dict[str, float]) -> float:
    return 100 * (test["probe_accuracy"] - test["pca_probe_accuracy"])


def _probe(test: dict[str, float]) -> str:
    return f"{100 * test['probe_accuracy']:.2f} %"


PROBE = "linear probe of the code, points above PCA-30's"
MEASURES = [
    Measure("digits_autoencoder", 5, "squared error / PCA-8's", _share, _pca, 1.0),
    Measure("mnist_autoencoder", 1, "squared error per image", lambda test: test["squared_error"], _pca, 3.0),
    Measure("mnist_autoencoder", 1, "squared error / PCA-30's", _share, _pca, 0.25),
    Measure("mnist_autoencoder", 1, PROBE, _gain, _probe, 2.0, at_most=False),
    Measure("mnist_conv_autoencoder", 1, "squared error / PCA-30's", _share, _pca, 0.25),
    Measure("mnist_denoising_autoencoder", 1, PROBE, _gain, _probe, 2.0, at_most=False),
    Measure("mnist_vae", 1, "NLL, nats", lambda test: test["nll"], lambda test: f"elbo {test['elbo']:.2f}", 87.0),
    Measure(
        *("mnist_iwae", 1, "NLL, nats; 28 epochs from mnist_vae"),
        lambda test: test["nll"],
        lambda test: f"bound {-test['loss']:.2f}",
        85.2,
        overrides=(
            *("train.init_from={workdir}/mnist_vae/0", "train.epochs=28", "train.batch_size=20"),
            "optimizer.learning_rate.peak=5e-4",
        ),
    ),
]


SPLITS = ("test", "validation")
NOT_RUN = "not run yet"


def launch(config: str, *overrides: str, workdir: pathlib.Path) -> None:
    """Carries out a run of a config, with overrides such as "seed=1", as any user would."""
    flags = [f"--config=configs/{config}.py", *(f"--config.{each}" for each in overrides)]
    subprocess.run([sys.executable, "launch.py", *flags, f"--workdir={workdir}"], cwd=ROOT, check=True)


def run(claim: Claim | Measure, workdir: pathlib.Path) -> None:
    """Carries out the runs of a claim."""
    overrides = [each.format(workdir=workdir) for each in claim.overrides]
    for seed in range(claim.seeds):
        launch(claim.config, *overrides, f"seed={seed}", workdir=workdir / claim.config / str(seed))


def finished(claim: Claim | Measure, workdir: pathlib.Path) -> list[pathlib.Path]:
    """The folders of its runs that have a result."""
    folders = [workdir / claim.config / str(seed) for seed in range(claim.seeds)]
    return [folder for folder in folders if (folder / "result.json").exists()]


def row(claim: Claim, workdir: pathlib.Path) -> str:
    """A line of the table, from the runs that are there."""
    folders = finished(claim, workdir)
    bars = f">= {100 * claim.accuracy:.1f} %" + (f", < {claim.seconds:.0f} s" if claim.seconds else "")
    if not folders:
        return f"| `configs/{claim.config}.py` | {NOT_RUN} | 0 of {claim.seeds} | | | | {bars} | | |"
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    versions = json.loads((folders[0] / "environment.json").read_text())[-1]
    accuracy, validation = ([_accuracy(result["metrics"][split]) for result in results] for split in SPLITS)
    seconds = statistics.mean(result["training_seconds"] for result in results)
    speed = statistics.mean(result["images_per_second"] for result in results)
    missing = f" of {claim.seeds}" * (len(folders) < claim.seeds)
    met = statistics.mean(accuracy) >= 100 * claim.accuracy and (claim.seconds is None or seconds < claim.seconds)
    return (
        f"| `configs/{claim.config}.py` | {summary(accuracy, digits=2)} % | {len(folders)}{missing} | "
        f"{statistics.mean(validation):.2f} % | {seconds:,.0f} s | {speed:,.0f} | {bars} | "
        f"{verdict(met, missing)} | "
        f"{versions['devices']}, jax {versions['versions']['jax']}, Python {versions['python']} |"
    )


def measured(measure: Measure, workdir: pathlib.Path) -> str:
    """A line of the other table, from the runs that are there."""
    folders = finished(measure, workdir)
    config = f"| `configs/{measure.config}.py` | {measure.what}"
    bar = f"{'<=' if measure.at_most else '>='} {measure.limit}"
    if not folders:
        return f"{config} | {NOT_RUN} | 0 of {measure.seeds} | | {bar} | | | |"
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    values = [measure.of(result["metrics"]["test"]) for result in results]
    versions = json.loads((folders[0] / "environment.json").read_text())[-1]
    mean, missing = statistics.mean(values), f" of {measure.seeds}" * (len(folders) < measure.seeds)
    met = mean <= measure.limit if measure.at_most else mean >= measure.limit
    return (
        f"{config} | {summary(values, digits=3)} | {len(folders)}{missing} | "
        f"{measure.beside(results[0]['metrics']['test'])} | {bar} | {verdict(met, missing)} | "
        f"{statistics.mean(result['training_seconds'] for result in results):,.0f} s | "
        f"{versions['devices']}, jax {versions['versions']['jax']}, Python {versions['python']} |"
    )


def verdict(met: bool, missing: str) -> str:
    """What a bar's column says; as long as seeds are missing, no more than how it stands."""
    return ("met" if met else "MISSED") + " so far" * bool(missing)


def summary(values: Sequence[float], *, digits: int) -> str:
    """The mean, and the sample standard deviation where there are several."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def _accuracy(metrics: dict[str, float]) -> float:
    """In percent; of the moving average where there is one, which then has chosen the checkpoint."""
    return 100 * metrics.get("ema_accuracy", metrics["accuracy"])


def write_table(file: pathlib.Path, name: str, lines: list[str]) -> None:
    """Puts the table between the markers of a document; a row whose runs are not at hand keeps what it says there."""
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = file.read_text().partition(first)
    old, _, after = rest.partition(last)
    for index, line in enumerate(lines):
        head, missing, _ = line.partition(f"| {NOT_RUN} |")
        lines[index] = next((row for row in old.splitlines() if missing and row.startswith(head)), line)
    file.write_text("\n".join([before + first, *lines, last + after]))


def table(head: str) -> list[str]:
    """The first lines of a table, whose columns are named between bars."""
    return [f"| {head} |", f"|{'---|' * (head.count('|') + 1)}"]


def front(claims: Sequence[str], measures: Sequence[str]) -> list[str]:
    """The one table of README.md: of the rows of docs/results.md what both kinds have."""
    of_claims, of_measures = ([_cells(line) for line in lines] for lines in (claims, measures))
    rows = [(config, "accuracy", mean, n, bar, met, time) for config, mean, n, _, time, _, bar, met, _ in of_claims]
    rows += [(config, what, mean, n, bar, met, time) for config, what, mean, n, _, bar, met, time, _ in of_measures]
    lines = table("config | of the test split | mean ± std | n | bar | | training")
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def main() -> None:
    """Runs what is missing and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, default=ROOT / "runs" / "results")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    workdir = options.workdir.absolute()
    for claim in (*CLAIMS, *MEASURES):
        if not options.tables and (not options.only or claim.config in options.only):
            run(claim, workdir)
    lines = table("config | test accuracy, mean ± std | n | validation | training | images/s | bar | | measured on")
    lines += [row(claim, workdir) for claim in CLAIMS]
    others = table("config | of the test split | mean ± std | n | beside it | bar | | training | measured on")
    others += [measured(measure, workdir) for measure in MEASURES]
    write_table(ROOT / "docs" / "results.md", "results", lines)
    write_table(ROOT / "docs" / "results.md", "measures", others)
    write_table(ROOT / "README.md", "results", front(lines[2:], others[2:]))
    lines += others
    print(*lines, f"\nmachine: {platform.machine()}, {platform.system()}", sep="\n")


if __name__ == "__main__":
    main()
