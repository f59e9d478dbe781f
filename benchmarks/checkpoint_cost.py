"""What verified checkpoints cost: a run that saves, with manifests and without, and a restore, beside orbax alone.

    python benchmarks/checkpoint_cost.py [--rounds=7] [--steps=3000] [--megabytes=100]

The runs train the same networks on the same data from the same state and save every 500 steps; rounds alternate, and
the ratio is taken within each round, since the speed of a shared machine drifts. The time is that of all steps and of
the last save to its end; the share of it in which a manifest was being made, by a thread beside the steps, is the most
that they can cost, and steadier than the ratio. Restored is a tree of normal numbers that lies in the system's cache:
`latest`, which compares every byte to the manifest, and `restore`, against orbax's `StandardCheckpointer.restore` of
the same arrays.
"""

import argparse
import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from unittest import mock

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from loop import CASES
from peers import data

from jaxrec import losses
from jaxrec.data import transforms
from jaxrec.data.batches import train_batches
from jaxrec.engine import hooks, manifest
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.engine.loop import fit
from jaxrec.engine.program import Program, compile_task
from jaxrec.tasks.one_loss import from_loss

SAVE_EVERY = 500  # steps
ARRAYS = 20  # that the tree is made of


def run(program: Program, steps: int, *, sealed: bool) -> tuple[float, float]:
    """Seconds that the steps and their saves take, with manifests or without, and those in which one was made."""
    write, making = manifest.write, []

    def timed(folder: pathlib.Path, step: int) -> None:
        began = time.perf_counter()
        if sealed:
            write(folder, step)
        making.append(time.perf_counter() - began)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(manifest, "write", timed),
        Checkpoints(folder) as checkpoints,
    ):
        began = time.perf_counter()
        fit(program, steps=steps, hooks=[hooks.every(SAVE_EVERY, hooks.save(checkpoints))])
        checkpoints.wait()
        return time.perf_counter() - began, sum(making)


def restores(megabytes: int, rounds: int) -> list[tuple[float, float]]:
    """Seconds of (a verified restore, orbax's own), of each round."""
    rng = np.random.default_rng(0)
    size = megabytes * 10**6 // 4 // ARRAYS
    tree = {f"layer_{number}": rng.normal(size=size).astype(np.float32) for number in range(ARRAYS)}
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    template = {name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=device) for name, value in tree.items()}
    pairs = []
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place, "checkpoints")
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(1, jax.device_put(tree))
        for _ in range(rounds + 1):
            began = time.perf_counter()
            with Checkpoints(folder, read_only=True) as checkpoints:
                jax.block_until_ready(checkpoints.restore(template, checkpoints.latest()))
            middle = time.perf_counter()
            with ocp.StandardCheckpointer() as bare:
                jax.block_until_ready(bare.restore(folder / "1" / "default", template))
            pairs.append((middle - began, time.perf_counter() - middle))
    return pairs[1:]  # the first warms up


def show(what: str, pairs: Sequence[tuple[float, float]], names: tuple[str, str]) -> None:
    """Prints the medians of two columns and of their ratio."""
    one, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    low, middle, high = statistics.quantiles([a / b for a, b in pairs], n=4)
    print(f"{what}: {names[0]} {one:.3f} s, {names[1]} {other:.3f} s, n = {len(pairs)}")
    print(f"  ratio {middle:.3f} (quartiles {low:.3f} to {high:.3f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--only", default="", help="part of the name of the cases to measure")
    options = parser.parse_args()
    print(f"jax {jax.__version__}, orbax {ocp.__version__}, {jax.devices()[0].platform} x {jax.device_count()}")
    show(
        f"restore of {options.megabytes} MB",
        restores(options.megabytes, options.rounds),
        ("verified", "orbax alone"),
    )
    for name, (model, shape, batch_size) in CASES.items():
        if options.only not in name:
            continue
        arrays = data.digits(shape)
        transform = transforms.standardise(*transforms.moments(arrays["image"]))
        train = train_batches(arrays, batch_size=batch_size, transform=transform)
        program = compile_task(from_loss(model, losses.softmax_cross_entropy, optax.adam(1e-3)), train)
        run(program, SAVE_EVERY, sealed=True)  # warms up
        pairs, shares = [], []
        for number in range(options.rounds):
            both = {sealed: run(program, options.steps, sealed=sealed) for sealed in (number % 2 > 0, number % 2 < 1)}
            pairs.append((both[True][0], both[False][0]))
            shares.append(both[True][1] / both[True][0])
        show(f"{name}, {options.steps} steps", pairs, ("with manifests", "without"))
        print(f"  share {statistics.median(shares):.2%} of the time (at most {max(shares):.2%})", flush=True)


if __name__ == "__main__":
    main()
