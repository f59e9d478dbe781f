"""What augmentation costs: each operation by itself, and crop and flip as a share of a training step.

    python benchmarks/augmentation.py [--batch=128] [--seconds=1] [--rounds=9] [--only=crop]

Each operation runs as in training: in one compiled program with the gathering of a batch from a resident array of
32x32x3 bytes, scaling, and keys of (seed, epoch, example), ten batches in a loop on the device. What stands beside an
operation is the time in addition to that of the same program without it. The forms take turns and medians are compared,
since the speed of a shared machine drifts. Then a training step of the CNN of configs/cifar10_cnn.py is timed with crop
and flip and without.
"""

import argparse
import functools
import statistics
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from operations import medians

from jaxrec import augment, losses
from jaxrec.augment import mix
from jaxrec.data import transforms
from jaxrec.data.batches import train_batches
from jaxrec.engine.program import Program, compile_task
from jaxrec.models import CNN
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.task import State
from jaxrec.types import Batch

LOOP = 10  # batches in one call
CROP_AND_FLIP = [augment.random_crop, augment.random_flip]
SINGLE = {
    **{name: [getattr(augment, name)] for name in augment.__all__},
    "random_crop, reflect": [functools.partial(augment.random_crop, mode="reflect")],
    "crop and flip": CROP_AND_FLIP,
    "color_jitter": [functools.partial(augment.color_jitter, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)],
}
PAIRS = {"mixup": mix.mixup, "cutmix": mix.cutmix, "mixup_or_cutmix": mix.mixup_or_cutmix}


def measure_operations(arrays: Batch, batch_size: int, seconds: float, only: str) -> None:
    resident = jax.device_put(arrays)
    prepared = {
        "gather, scale": transforms.unit_range,
        "keys alone": transforms.augmented([lambda image, key: image + jax.random.uniform(key, ())]),
        **{name: transforms.augmented(functions) for name, functions in SINGLE.items()},
        **{name: transforms.augmented([], pair) for name, pair in PAIRS.items()},
    }
    calls = {}
    for name, transform in prepared.items():
        if calls and only not in name:
            continue
        train = train_batches(arrays, batch_size=batch_size, transform=transform)
        rows = jax.tree.map(lambda *parts: np.stack(parts), *(train.host(step) for step in range(LOOP)))
        calls[name] = functools.partial(in_a_loop(train.fetch), resident, rows)
        bare, taken = medians([next(iter(calls.values())), calls[name]], (), seconds)
        print(f"{name:24} {taken / LOOP * 1e3:9.2f} {(taken - bare) / LOOP * 1e3:9.2f}", flush=True)


def in_a_loop(fetch: Callable) -> Callable:
    """Fetches several batches in one call, as training does, and adds their images up so that none is left out."""

    def run(resident: Batch, rows: Batch) -> jax.Array:
        def body(index: jax.Array, total: jax.Array) -> jax.Array:
            return total + fetch(resident, jax.tree.map(lambda row: row[index], rows))["image"]

        first = jax.eval_shape(fetch, resident, jax.tree.map(lambda row: row[0], rows))["image"]
        return jax.lax.fori_loop(0, LOOP, body, jnp.zeros(first.shape))

    return jax.jit(run)


def measure_step(arrays: Batch, batch_size: int, rounds: int) -> None:
    standardise = transforms.standardise(*transforms.moments(arrays["image"]))
    task = from_loss(CNN(widths=(32, 64, 64), pool_last=False), losses.softmax_cross_entropy, optax.adam(1e-3))
    calls = []
    for randomise in (transforms.unit_range, transforms.augmented(CROP_AND_FLIP)):
        transform = transforms.chain(randomise, standardise)
        program = compile_task(task, train_batches(arrays, batch_size=batch_size, transform=transform))
        calls.append(functools.partial(take_steps, program, [program.init()]))
    times = [[taken / LOOP for taken in medians(calls, (), 1)] for _ in range(rounds)]
    plain, augmented = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
    low, middle, high = statistics.quantiles([after / before - 1 for before, after in times], n=4)
    print(f"\nTraining step of the CNN: {plain:.1f} ms, with crop and flip {augmented:.1f} ms")
    print(f"crop and flip add {middle:.1%} (quartiles {low:.1%} to {high:.1%}), n = {rounds}")


def take_steps(program: Program, state: list[State]) -> None:
    """Takes one call of steps from the state in the list, which it replaces."""
    state[0], _ = program.train(state[0], 0, LOOP)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each operation")
    parser.add_argument("--rounds", type=int, default=9, help="of the training step")
    parser.add_argument("--only", default="", help="part of the name of the operations to measure")
    options = parser.parse_args()
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, batch {options.batch}, 32x32x3, medians\n")
    print(f"{'operation':24} {'ms':>9} {'added ms':>9}")
    rng = np.random.default_rng(0)
    arrays = {"image": rng.integers(0, 256, (10_000, 32, 32, 3), np.uint8), "label": np.arange(10_000) % 10}
    measure_operations(arrays, options.batch, options.seconds, options.only)
    measure_step(arrays, options.batch, options.rounds)


if __name__ == "__main__":
    main()
