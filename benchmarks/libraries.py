"""Which of XLA's libraries trains faster on a CPU: whole training steps, compiled for each, taking turns.

    python benchmarks/libraries.py [--only="ViT-tiny, 128"] [--rounds=6] [--seconds=1]

YNNPACK is what XLA takes when it is told nothing. A row has the median step, and how much faster than that it
is: median, lowest and highest over rounds. In each round all take turns in a fresh random order, and the fastest call
of a turn counts. JAX 0.10 refuses some programs with oneDNN, and ends this script with it.
"""

import argparse
import random
import statistics
import time
from typing import Any
from unittest import mock

import jax
from peers.jaxrec_program import program_of
from peers.networks import NETWORKS

from jaxrec.sharding import Parallel

LIBRARIES: dict[str, dict[str, Any]] = {  # compiler options
    "YNNPACK": {},
    "oneDNN": {"xla_cpu_use_onednn": True, "xla_cpu_experimental_onednn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"},
    "Eigen": {"xla_cpu_experimental_ynn_fusion_type": ""},
}


class Runner:
    """A network that is trained on and on, by one library."""

    def __init__(self, name: str, options: dict[str, Any]):
        with mock.patch.object(Parallel, "repeatable", options):
            self.program = program_of(name, log_every=10)
            self.state, self.step, self.chunk = self.program.init(), 0, NETWORKS[name].chunk
        self.call()
        self.best: list[float] = []  # seconds a step, of each turn

    def call(self) -> float:
        """Takes some steps: seconds for each."""
        began = time.perf_counter()
        self.state, *_ = self.program.train(self.state, self.step, self.step + self.chunk)
        jax.block_until_ready(self.state)
        self.step += self.chunk
        return (time.perf_counter() - began) / self.chunk

    def turn(self, seconds: float) -> None:
        """Trains for a while."""
        until, calls = time.perf_counter() + seconds, []
        while not calls or time.perf_counter() < until:
            calls.append(self.call())
        self.best.append(min(calls))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=NETWORKS, help="a network; may be given again")
    parser.add_argument("--library", action="append", choices=LIBRARIES, help="beside YNNPACK; may be given again")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn")
    options = parser.parse_args()
    order = random.Random(0)
    print(f"jax {jax.__version__}")
    for name in options.only or NETWORKS:
        runners: dict[str, Runner] = {}
        for library in dict.fromkeys(["YNNPACK", *(options.library or LIBRARIES)]):
            runners[library] = Runner(name, LIBRARIES[library])
        for _ in range(options.rounds):
            for runner in order.sample(list(runners.values()), len(runners)):
                runner.turn(options.seconds)
        for library, runner in runners.items():
            ratios = [usual / own for usual, own in zip(runners["YNNPACK"].best, runner.best, strict=True)]
            print(
                f"{name:<24}{library:<10}{1000 * statistics.median(runner.best):9.2f} ms  "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
