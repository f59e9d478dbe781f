"""Frechet distances of the adversarial losses beside a variational autoencoder's, and their table in docs/results.md.

    python benchmarks/gans.py [--workdir=runs/gans] [--only=mnist/hinge] [--seeds=2] [--tables]

For each data set a recogniser is trained, whose features judge all that follows, then two autoencoders, then a run
for each loss and seed. A distance is that of the whole test split, in the state that validation chose; its excess is
what it has over that of as many real training images. Runs that are finished are not repeated, interrupted ones go on,
and --tables only writes the table, in which a row without a finished run keeps what it says.
"""

import argparse
import json
import pathlib
import statistics
from typing import NamedTuple

from results import NOT_RUN, ROOT, launch, summary, table, verdict, write_table

DATA = ("mnist", "fashion_mnist")
AUTOENCODERS = {"vae": ("conditional=True",), "vae_untold": ()}  # told the class, as the others are, and told nothing
LIMIT = 1 / 5  # of the excess of the one that is told the class


class Loss(NamedTuple):
    """A loss that is held to the bar."""

    name: str
    config: str
    seeds: int
    overrides: tuple[str, ...] = ()


LOSSES = [
    Loss("minimax", "mnist_dcgan", 1, ("loss.name=minimax",)),
    Loss("non_saturating", "mnist_dcgan", 1),
    Loss("least_squares", "mnist_dcgan", 1, ("loss.name=least_squares", "r1=10.0")),
    Loss("wasserstein", "mnist_wgan_gp", 5),
    Loss("hinge", "mnist_sngan", 5),
]


def distance(folder: pathlib.Path) -> tuple[float, float] | None:
    """Frechet distance and floor of a finished run, on the test split."""
    if not (folder / "result.json").exists():
        return None
    test = json.loads((folder / "result.json").read_text())["metrics"]["test"]
    return test.get("ema_frechet", test["frechet"]), test["real_frechet"]


def row(data: str, loss: Loss, workdir: pathlib.Path) -> str:
    """A line of the table, from the runs that are there."""
    head = f"| {data} | `{loss.name}`, `configs/{loss.config}.py`"
    found = [value for seed in range(loss.seeds) if (value := distance(workdir / data / loss.name / str(seed)))]
    told, untold = (distance(workdir / data / name) for name in AUTOENCODERS)
    if not (found and told and untold):
        return f"{head} | {NOT_RUN} | 0 of {loss.seeds} | | | | |"
    values, floor = [value for value, _ in found], found[0][1]
    shares = [(value - floor) / (told[0] - told[1]) for value in values]
    missing = f" of {loss.seeds}" * (len(values) < loss.seeds)
    below = sum(share <= LIMIT for share in shares)
    met = verdict(below > 0, missing)
    if 0 < below < len(shares):
        met = met.replace("met", f"met by {below} of {len(shares)} seeds")
    return (
        f"{head} | {summary(values, digits=3)} | {len(values)}{missing} | {floor:.3f} | "
        f"{told[0]:.3f}: {statistics.mean(shares):.2f}{f', worst {max(shares):.2f}' * (len(shares) > 1)} | "
        f"{untold[0]:.3f}: {(statistics.mean(values) - floor) / (untold[0] - untold[1]):.2f} | "
        f"{met} |"
    )


def main() -> None:
    """Runs what is missing and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, default=ROOT / "runs" / "gans")
    parser.add_argument("--only", action="append", default=[], help="DATA/LOSS, such as mnist/hinge; may be repeated")
    parser.add_argument("--seeds", type=int, default=5, help="at most so many")
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    workdir = options.workdir.absolute()
    for data in DATA:
        losses = [loss for loss in LOSSES if not options.only or f"{data}/{loss.name}" in options.only]
        if options.tables or not losses:
            continue
        own, judged = f"data.dataset={data}", f"features={workdir / data / 'recogniser'}"
        launch("mnist_lenet5", own, workdir=workdir / data / "recogniser")
        for name, told in AUTOENCODERS.items():
            # Of its likelihood a hundred images are enough here.
            less = ("train.epochs=100", "optimizer.learning_rate.peak=1.5e-3", "warmup=10.0", "nll_images=100")
            launch("mnist_vae", *told, *less, own, judged, workdir=workdir / data / name)
        for loss in losses:
            for seed in range(min(loss.seeds, options.seeds)):
                place = workdir / data / loss.name / str(seed)
                launch(loss.config, *loss.overrides, own, judged, f"seed={seed}", workdir=place)
    sides = "VAE told the class: share of its excess | VAE told nothing: share of its excess"
    lines = table(f"data | loss, config | Frechet distance, mean ± std | n | real images' | {sides} | bar 1/5")
    lines += [row(data, loss, workdir) for data in DATA for loss in LOSSES]
    write_table(ROOT / "docs" / "results.md", "gans", lines)
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
