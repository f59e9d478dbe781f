"""How fast jaxrec trains on a CPU against its peers: images/s of the same networks on the same data.

    python benchmarks/speed.py [--rounds=5] [--seconds=3] [--only="seed CNN, 32"] [--also=PYTHON] [--quick]

Each contender is a process of its own. All of one network's are started and warmed up first; then they take turns, in
a fresh random order each round, and ratios are taken within a round: the speed of a shared machine drifts. The raw
numbers go to --out, network by network, the tables and the chart into the document. Takes up to 1 GB for a contender.
"""

import argparse
import contextlib
import json
import pathlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from peers import data, documents
from peers.networks import NETWORKS
from peers.process import LeftOut, Process, running

ROOT = pathlib.Path(__file__).parents[1]
PAUSE = 0.5  # seconds between turns: the threads of some frameworks spin for a while before they sleep
QUICK = ("seed CNN, 128", "MLP, 128")

EVERYWHERE = tuple(NETWORKS)
FIT = tuple(name for name in NETWORKS if name != "DCGAN, 128")  # what Keras' fit trains
CONVOLUTIONAL = ("seed CNN, 128", "seed CNN, 32", "DCGAN, 128", "ResNet-20, 128")
KEPT = ("seed CNN, 128",)  # with malloc set to keep what is freed as well: where jaxrec gains, others may too


class Contender(NamedTuple):
    label: str
    arguments: tuple[str, ...]
    networks: tuple[str, ...] = EVERYWHERE


CONTENDERS = [
    Contender("jaxrec", ("--kind=jaxrec",)),
    Contender("jaxrec, oneDNN", ("--kind=jaxrec", "--onednn")),
    Contender("flax", ("--kind=flax",)),
    Contender("Keras-JAX", ("--kind=keras-jax",), FIT),
    Contender("Keras-TF", ("--kind=keras-tensorflow",), FIT),
    Contender("Keras-TF, memory kept", ("--kind=keras-tensorflow", "--keep-memory"), KEPT),
    Contender("torch", ("--kind=torch",)),
    Contender("torch, memory kept", ("--kind=torch", "--keep-memory"), KEPT),
    Contender("torch channels_last", ("--kind=torch", "--channels-last"), CONVOLUTIONAL),
    Contender("torch channels_last, memory kept", ("--kind=torch", "--channels-last", "--keep-memory"), KEPT),
]
IN_JAX = ("--kind=jaxrec", "--kind=flax", "--kind=keras-jax")


def lineup(name: str, also: str | None) -> Iterator[tuple[str, Contender]]:
    """(interpreter, contender) for all that train a network."""
    for contender in CONTENDERS:
        if name in contender.networks:
            yield sys.executable, contender
            if also and contender.arguments[0] in IN_JAX:
                yield also, contender


def measure(name: str, rounds: int, seconds: float, also: str | None) -> dict[str, Any]:
    """Lets all contenders of a network take turns: {"conditions": in words, "contenders": {label: answers}}."""
    print(f"\n{name}", flush=True)
    with contextlib.ExitStack() as stack:
        file = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()), "data.npz")
        arrays, words = data.load(NETWORKS[name].data, NETWORKS[name].shape)
        np.savez(file, **arrays)
        processes: dict[str, Process] = {}
        versions: dict[str, set[str]] = {}
        for python, contender in lineup(name, also):
            script = str(ROOT / "benchmarks/contender.py")
            command = [python, script, f"--network={name}", f"--data={file}", *contender.arguments]
            process = stack.enter_context(running(command))
            try:
                ready = process.answer()
            except LeftOut as error:
                hint = " (pip install -e '.[bench]')" if "ModuleNotFoundError" in str(error) else ""
                print(f"  {contender.label} is left out: {error}{hint}", flush=True)
                continue
            if not NETWORKS[name].fits(ready["parameters"]):
                sys.exit(f"{contender.label} has {ready['parameters']:,} parameters, not {NETWORKS[name].parameters:,}")
            jax = f" (JAX {ready['versions']['jax']})" if also and contender.arguments[0] in IN_JAX else ""
            label = contender.label + jax
            processes[label] = process
            for package, version in ready["versions"].items():
                versions.setdefault(package, set()).add(version)
            print(f"  {label:<34} ready, {ready['images'] / ready['seconds']:>9,.0f} images/s", flush=True)
        answers = take_turns(processes, rounds, seconds)
    packages = ", ".join(f"{package} {' and '.join(sorted(versions[package]))}" for package in sorted(versions))
    conditions = f"{words}; {documents.cores()}; {rounds} rounds of at least {seconds:g} s; {packages}."
    return {"conditions": conditions, "contenders": answers}


def take_turns(processes: Mapping[str, Process], rounds: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """Every round each contender trains once, in a fresh order."""
    answers: dict[str, list[dict[str, Any]]] = {label: [] for label in processes}
    order = random.Random(0)
    for number in range(1, rounds + 1):
        for label in order.sample(list(processes), len(processes)):
            time.sleep(PAUSE)
            answers[label].append(processes[label].train(seconds))
        medians = (f"{label} {statistics.median(documents.speeds(answers[label])):,.0f}" for label in processes)
        print(f"  after round {number}/{rounds}: {', '.join(medians)}", flush=True)
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="5 by default, 3 with --quick; at least 2, for quartiles")
    parser.add_argument("--seconds", type=float, help="of a turn; 3 by default, 2 with --quick")
    parser.add_argument("--only", action="append", choices=NETWORKS, help="a network; may be given again")
    parser.add_argument("--also", metavar="PYTHON", help="another interpreter, to run the contenders in JAX with too")
    parser.add_argument("--quick", action="store_true", help="two networks in three minutes; writes nothing")
    parser.add_argument("--tables", action="store_true", help="measure nothing, write what is in --out again")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "runs/bench/speed.json")
    parser.add_argument("--docs", type=pathlib.Path, default=ROOT / "docs/speed.md")
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 5)
    seconds = options.seconds or (2.0 if options.quick else 3.0)
    results = json.loads(options.out.read_text()) if options.out.exists() and not options.quick else {}
    if not options.quick:
        documents.check(options.docs, "speed")
        documents.check(options.docs.with_name("results.md"), "speed")
    for name in () if options.tables else options.only or (QUICK if options.quick else NETWORKS):
        results[name] = measure(name, rounds, seconds, options.also)
        print("\n" + "\n".join(documents.speed_table(name, results[name])), flush=True)
        if not options.quick:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(results, indent=1))
    if not options.quick:
        results = {name: results[name] for name in NETWORKS if name in results}
        tables = [line for name, measured in results.items() for line in documents.speed_table(name, measured)]
        chart = f"![images/s]({options.docs.stem}.png)"
        bars = documents.bars_table(results)
        documents.write_between(options.docs, "speed", [*bars, chart, "", *tables])
        documents.write_between(options.docs.with_name("results.md"), "speed", bars)
        documents.draw(results, options.docs.with_suffix(".png"))


if __name__ == "__main__":
    main()
