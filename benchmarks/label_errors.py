"""How many labels that were made wrong on purpose `launch.py mistakes` finds, and how many of those it names are.

    python benchmarks/label_errors.py [--data=digits|mnist --seeds=3 --flipped=0.02 --workdir=FOLDER]

Of the labels of train and validation a share is given another class at random, and a cross-validation in five folds
learns them as they are. Precision is the share of the named ones that were made wrong, recall the share of these that
are named; beside them stand those of naming every label that the network's answer differs from. A seed is that of the
flips, the folds and the networks. Runs that are finished are not run again.
"""

import argparse
import contextlib
import pathlib
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import launch  # noqa: E402
from jaxrec.data import sources  # noqa: E402
from jaxrec.metrics.label_errors import label_errors  # noqa: E402

# The set, and the config that learns it, shortened where it takes minutes.
DATA = {
    "digits": (sources.digits, ["--config=configs/digits_cnn.py"]),
    "mnist": (
        lambda: sources.tfds(dataset="mnist"),
        ["--config=configs/mnist_lenet5.py", "--config.train.epochs=3"],
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DATA, default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--flipped", type=float, default=0.02)
    parser.add_argument("--workdir", type=pathlib.Path)
    args = parser.parse_args()
    workdir = args.workdir or pathlib.Path(tempfile.mkdtemp())
    found = [measured(args.data, seed, args.flipped, workdir / f"{args.data}_{seed}") for seed in range(args.seeds)]
    print(f"{args.data}, {args.flipped:.1%} of the labels flipped, n = {args.seeds}")
    for name in found[0]:
        values = [each[name] for each in found]
        deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
        print(f"{name:>20}: {np.mean(values):.3f}{deviation}")


def measured(data: str, seed: int, share: float, folder: pathlib.Path) -> dict[str, float]:
    """Flips, cross-validates, and counts."""
    source, flags = DATA[data]
    dataset, rng = source(), np.random.default_rng(seed)
    ids = np.sort(np.concatenate([dataset.splits["train"], dataset.splits["validation"]]))
    true, label = dataset.label[ids], dataset.label[ids].copy()
    flipped = rng.choice(len(ids), round(share * len(ids)), replace=False)
    label[flipped] = (label[flipped] + rng.integers(1, len(dataset.classes), len(flipped))) % len(dataset.classes)
    folder.mkdir(parents=True, exist_ok=True)
    test = dataset.splits["test"]  # which no fold has; without one a fifth would be held out
    arrays = {"x_test": dataset.image[test], "y_test": dataset.label[test]}
    np.savez(folder / "flipped.npz", x_train=dataset.image[ids], y_train=label, **arrays)
    section = {"name": "npz", "path": str(folder / "flipped.npz"), "validation": 0.1}
    command = ["cross_validate", *flags, f"--config.data={section}", f"--config.seed={seed}"]
    with contextlib.chdir(ROOT), (folder / "output.txt").open("w") as output, contextlib.redirect_stdout(output):
        if code := launch.main([*command, f"--workdir={folder / 'folds'}"]):
            sys.exit(code)
    with np.load(folder / "folds" / "out_of_fold.npz") as file:
        id_, probability = file["id"], file["probability"]
    wrong = label[id_] != true[id_]
    errors, seems = label_errors(probability.astype(np.float64), label[id_])
    hits = wrong[errors]
    mended = seems[hits] == true[id_][errors[hits]]
    answered = probability.argmax(1)
    print(
        f"seed {seed}: {wrong.sum()} of {len(id_)} are wrong, {len(errors)} are named, {hits.sum()} of them wrong",
        flush=True,
    )
    return {
        "precision": float(hits.mean()),
        "recall": float(hits.sum() / wrong.sum()),
        "true class named": float(mended.mean()),
        "accuracy, true labels": float((answered == true[id_]).mean()),
        "disagreement: precision": float(wrong[answered != label[id_]].mean()),
        "disagreement: recall": float((answered != label[id_])[wrong].mean()),
    }


if __name__ == "__main__":
    main()
