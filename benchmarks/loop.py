"""What the trainer's loop costs: images/s of `fit` with its hooks on, over those of the bare jitted step.

And what taking several steps in one call gains: `fit` as it comes, and with `steps_per_call` = 1.

    python benchmarks/loop.py [--rounds=7] [--seconds=20] [--only="batch 128"]

Both train the same network on the same data from the same state. The bare loop calls the jitted, donated step on
batches that lie on the device already and waits once at the end; `fit` selects, records, shows and saves as a run with
the default config does (evaluation is work of its own and left out). Rounds alternate, and the ratio is taken within
each round, since the speed of a shared machine drifts.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import jax
import optax
from flax import linen as nn
from peers import data
from rich.console import Console

from jaxrec import losses
from jaxrec.data import transforms
from jaxrec.data.batches import train_batches
from jaxrec.engine import hooks
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.engine.loop import fit
from jaxrec.engine.program import Program, compile_task
from jaxrec.models import CNN, MLP
from jaxrec.output.progress import ProgressLine
from jaxrec.output.records import Records
from jaxrec.tasks.one_loss import from_loss

CASES = {
    "digits CNN 32-64-D128, 8x8x1, batch 64": (CNN(widths=(32, 64), hidden=(128,), padding="SAME"), (8, 8, 1), 64),
    "CNN 32-64-64-D64, 32x32x3, batch 32": (CNN(widths=(32, 64, 64), pool_last=False), (32, 32, 3), 32),
    "CNN 32-64-64-D64, 32x32x3, batch 128": (CNN(widths=(32, 64, 64), pool_last=False), (32, 32, 3), 128),
    "MLP 512-512, 28x28x1, batch 128": (MLP(), (28, 28, 1), 128),
}


def measure(
    model: nn.Module, shape: tuple[int, ...], batch_size: int, rounds: int, seconds: float
) -> list[tuple[float, float, float]]:
    """Images/s of fit, of fit with one step in a call, and of the bare step, for each round."""
    arrays = data.digits(shape)
    transform = transforms.standardise(*transforms.moments(arrays["image"]))
    train = train_batches(arrays, batch_size=batch_size, transform=transform)
    task = from_loss(model, losses.softmax_cross_entropy, optax.adam(1e-3))
    program, one_by_one = (compile_task(task, train, steps_per_call=count) for count in (None, 1))
    resident = jax.device_put(arrays)
    fetch = jax.jit(train.fetch)
    batches = [fetch(resident, jax.device_put(train.host(step))) for step in range(16)]
    bare_step = jax.jit(task.train_step, donate_argnums=0)
    key = jax.random.key(0)

    def bare(steps: int) -> float:
        state, _ = bare_step(program.init(), batches[0], key)
        jax.block_until_ready(state)
        began = time.perf_counter()
        for step in range(steps):
            state, _ = bare_step(state, batches[step % len(batches)], key)
        jax.block_until_ready(state)
        return steps * batch_size / (time.perf_counter() - began)

    def full(program: Program, steps: int) -> float:
        with (
            tempfile.TemporaryDirectory() as folder,
            open("/dev/null", "w") as nowhere,
            Checkpoints(f"{folder}/checkpoints") as checkpoints,
            Records(pathlib.Path(folder)) as record,
            ProgressLine(steps, console=Console(file=nowhere, force_terminal=True)) as progress,
        ):
            began: list[float] = []
            start = hooks.every(1, lambda moment: began.append(time.perf_counter()))
            epoch = hooks.every(steps + program.log_every, hooks.save(checkpoints))
            fit(program, steps=steps + program.log_every, hooks=[start, record, progress, epoch])
            # From the end of the first interval, which warms up, to the end of the last.
            return steps * batch_size / (time.perf_counter() - began[0])

    steps = max(100, int(seconds * bare(50) / batch_size) // 50 * 50)
    full(program, 50), full(one_by_one, 50)
    return [(full(program, steps), full(one_by_one, steps), bare(steps)) for _ in range(rounds)]


def main() -> None:
    """Prints one row for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=20.0, help="of a round, in which one checkpoint is saved")
    parser.add_argument("--only", default="", help="part of the name of the cases to measure")
    options = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].platform} x {jax.device_count()}")
    for name, (model, shape, batch_size) in CASES.items():
        if options.only not in name:
            continue
        rows = measure(model, shape, batch_size, options.rounds, options.seconds)
        full, one_by_one, bare = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name}: fit {full:,.0f}/s, one step a call {one_by_one:,.0f}/s, bare {bare:,.0f}/s, n = {len(rows)}")
        for label, column in (("fit / bare", 0), ("one step a call / bare", 1)):
            ratios = [row[column] / row[2] for row in rows]
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(f"  {label:<24} {middle:.3f} (quartiles {low:.3f} to {high:.3f})", flush=True)


if __name__ == "__main__":
    main()
