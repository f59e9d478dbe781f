"""What it costs to know that a state is finite: at each moment, and before each save.

    python benchmarks/finite.py [--rounds=15] [--only="MLP"]

A moment comes every 50 steps and asks whether all of the state is finite; a save also takes one step more from a copy.
Both are timed behind the steps of the same round, and their shares are medians over the rounds: of 50 steps, and of
500, the interval that a save is charged to.
"""

import argparse
import itertools
import statistics
import time

import jax
import optax
from loop import CASES
from peers import data

from jaxrec import losses
from jaxrec.data import transforms
from jaxrec.data.batches import train_batches
from jaxrec.engine.program import compile_task
from jaxrec.tasks.one_loss import from_loss

MOMENT, SAVE = 50, 500  # steps


def shares(label: str, rounds: int) -> tuple[list[float], list[float]]:
    """What a moment's question and a save's cost, as shares of the steps they belong to, round by round."""
    model, shape, batch_size = CASES[label]
    arrays = data.digits(shape)
    transform = transforms.standardise(*transforms.moments(arrays["image"]))
    train = train_batches(arrays, batch_size=batch_size, transform=transform)
    program = compile_task(from_loss(model, losses.softmax_cross_entropy, optax.adam(1e-3)), train)
    state = program.init()
    program.sound(state)
    at_moments, at_saves = [], []
    for step in range(0, MOMENT * (rounds + 2), MOMENT):
        times = [time.perf_counter()]
        state, _ = program.take(state, step, step + MOMENT)
        jax.block_until_ready(state)
        times.append(time.perf_counter())
        program.finite(state)
        times.append(time.perf_counter())
        program.sound(state)
        times.append(time.perf_counter())
        steps, finite, sound = (after - before for before, after in itertools.pairwise(times))
        at_moments.append(finite / steps)
        at_saves.append(sound / steps * MOMENT / SAVE)
    return at_moments[2:], at_saves[2:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="part of a case's name")
    args = parser.parse_args()
    for label in CASES:
        if args.only in label:
            moments, saves = shares(label, args.rounds)
            spread = f"{min(moments):.2%} to {max(moments):.2%}"
            print(
                f"{label}: {statistics.median(moments):.2%} of {MOMENT} steps ({spread}), "
                f"{statistics.median(saves):.2%} of {SAVE} before a save, n = {len(moments)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
