"""What an autoencoder's encoder is worth as a recogniser's body, and the table in docs/results.md.

    python benchmarks/labels.py [--workdir=runs/labels] [--encoder=runs/results/mnist_autoencoder/0] [--tables]

By the number of labels: the same network and schedule from the encoder of configs/mnist_autoencoder.py and from
scratch. Validation, which chooses the state, keeps its labels on both sides. Runs that are finished are not repeated,
interrupted ones go on.
"""

import argparse
import json
import pathlib

from results import NOT_RUN, ROOT, launch, summary, table, write_table

SEEDS = 3
NETWORK = ("model.widths=(1000, 500, 250)", "model.activation=gelu", "standardise=False")
FEW = ("train.epochs=None", "train.steps=1000")
LABELS = {"100": ("train_images=100", *FEW), "1,000": ("train_images=1000", *FEW), "all": ("train.epochs=10",)}


def accuracy(folder: pathlib.Path) -> str:
    """Mean and deviation on the test split, in percent, of the runs that are finished below a folder."""
    results = [json.loads(file.read_text()) for file in sorted(folder.glob("*/result.json"))]
    found = [100 * result["metrics"]["test"]["accuracy"] for result in results]
    return f"{summary(found, digits=2)} % (n = {len(found)})" if found else NOT_RUN


def run(bodies: dict[str, tuple[str, ...]], encoder: pathlib.Path, workdir: pathlib.Path) -> None:
    """Carries out all runs, the encoder's first."""
    launch("mnist_autoencoder", "seed=0", workdir=encoder)
    for labels, fewer in LABELS.items():
        for name, body in bodies.items():
            for seed in range(SEEDS):
                place = workdir / labels / name / str(seed)
                launch("mnist_mlp", *NETWORK, *fewer, *body, f"seed={seed}", workdir=place)


def main() -> None:
    """Runs what is missing and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, default=ROOT / "runs" / "labels")
    parser.add_argument("--encoder", type=pathlib.Path, default=ROOT / "runs" / "results" / "mnist_autoencoder" / "0")
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    workdir, encoder = options.workdir.absolute(), options.encoder.absolute()
    bodies = {
        "encoder": (f"train.init_from={encoder}", "train.submodule=encoder", "train.reinit=^Dense_3/"),
        "scratch": (),
    }
    if not options.tables:
        run(bodies, encoder, workdir)
    lines = table("labels | from the encoder | from scratch")
    lines += [f"| {labels} | {' | '.join(accuracy(workdir / labels / name) for name in bodies)} |" for labels in LABELS]
    write_table(ROOT / "docs" / "results.md", "labels", lines)
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
