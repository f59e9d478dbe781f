"""Training speed on a GPU: jaxrec with one and with ten steps in a call, against PyTorch on the same card.

    python benchmarks/gpu.py [--only="ResNet-50"] [--contenders="10 steps|torch$"] [--rounds=5] [--out=FILE.json]
    python benchmarks/gpu.py --batch=8 --side=32 --seconds=0.1 --rounds=1    # whether it runs, on a CPU too

Random images lie on the device as bytes; a step picks its rows, scales them to [0, 1] and updates the parameters.
jaxrec is `compile_task` and `Program.train` by intervals of up to 50 steps, as a run has them, and counts accuracy
besides. PyTorch has channels last, autocast, fused optimizers, cudnn.benchmark and TF32 (XLA's float32 is TF32 on such
cards), and is compiled where that takes no longer than --compile-limit. Rounds are taken in turns, in a fresh random
order. "Compile" is the time from nothing to the end of the first ten steps. Medians; in brackets lowest and highest.
"""

import argparse
import functools
import importlib
import json
import os
import pathlib
import random
import re
import signal
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs memory of the card as well

import jax
import numpy as np
import optax

from jaxrec import losses
from jaxrec.data import transforms
from jaxrec.data.batches import train_batches
from jaxrec.engine.program import compile_task
from jaxrec.models import CNN, ResNet
from jaxrec.tasks.one_loss import from_loss

INTERVAL = 50  # steps between two looks at the metrics, as a run has them by default


class Case(NamedTuple):
    network: str
    side: int
    classes: int
    batch: int
    dtype: str
    images: int
    parameters: int


CASES = {
    "seed CNN, 128, float32": Case("seed CNN", 32, 10, 128, "float32", 50_000, 122_570),
    "seed CNN, 512, float32": Case("seed CNN", 32, 10, 512, "float32", 50_000, 122_570),
    "ResNet-18, 512, bfloat16": Case("ResNet-18", 32, 10, 512, "bfloat16", 50_000, 11_173_962),
    "ResNet-50, 256, bfloat16": Case("ResNet-50", 224, 1000, 256, "bfloat16", 2_048, 25_557_032),
}
LARGE = {"block": "bottleneck", "stem": "large"}
MODELS = {
    "seed CNN": functools.partial(CNN, widths=(32, 64, 64), pool_last=False),
    "ResNet-18": functools.partial(ResNet, blocks=(2, 2, 2, 2), width=64, shortcut="project"),
    "ResNet-50": functools.partial(ResNet, blocks=(3, 4, 6, 3), width=64, shortcut="project", **LARGE),
}
# name: steps in a call
JAXREC = {"jaxrec, 10 steps a call": 10, "jaxrec, 1 step a call": 1}


def jaxrec_trainer(case: Case, at_once: int, arrays: dict[str, np.ndarray]) -> tuple[Callable[[int], None], int]:
    """Returns (take_steps(count), which waits for the device; the number of parameters)."""
    model = MODELS[case.network](classes=case.classes, dtype=case.dtype)
    optimizer = optax.adam(1e-3) if case.network == "seed CNN" else optax.sgd(0.01, momentum=0.9)
    train = train_batches(arrays, batch_size=case.batch, transform=transforms.unit_range)
    task = from_loss(model, losses.softmax_cross_entropy, optimizer)
    program = compile_task(task, train, steps_per_call=at_once)
    now = [program.init(), 0]

    def take_steps(count: int) -> None:
        stop = now[1] + count
        for first in range(now[1], stop, INTERVAL):
            now[0], _ = program.train(now[0], first, min(first + INTERVAL, stop))
        now[1] = stop
        jax.block_until_ready(now[0])

    return take_steps, sum(leaf.size for leaf in jax.tree.leaves(program.template.params))


def contenders(case: Case, arrays: dict[str, np.ndarray], only: str) -> dict[str, Callable]:
    """What makes each contender that is asked for, torch where it is installed."""
    makers = {name: functools.partial(jaxrec_trainer, case, at_once, arrays) for name, at_once in JAXREC.items()}
    if "torch" in versions():
        torch_gpu = importlib.import_module("peers.torch_gpu")
        settings = {"classes": case.classes, "half": case.dtype == "bfloat16", "arrays": arrays, "batch": case.batch}
        for name, mode in torch_gpu.MODES.items():
            if not (case.network == "ResNet-50" and mode == "reduce-overhead"):  # no launch to save, and little memory
                makers[name] = functools.partial(torch_gpu.trainer, case.network, mode=mode, **settings)
    return {name: maker for name, maker in makers.items() if re.search(only, name)}


def started(maker: Callable, limit: int) -> tuple[Callable[[int], None], int, float]:
    """Returns (take_steps, parameters, seconds to the end of the first ten steps).

    Raises:
      TimeoutError: it takes more than `limit` seconds.
    """

    def give_up(*_: object) -> None:
        raise TimeoutError(f"not compiled within {limit} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(limit)
    began = time.perf_counter()
    take_steps, parameters = maker()
    take_steps(10)
    signal.alarm(0)
    return take_steps, parameters, time.perf_counter() - began


def measure(case: Case, options: argparse.Namespace) -> list[dict]:
    """One row for each contender, the fastest first."""
    rng = np.random.default_rng(0)
    shape = (case.images, case.side, case.side, 3)
    arrays = {"image": rng.integers(0, 256, shape, np.uint8), "label": rng.integers(0, case.classes, case.images)}
    running, steps, rows = {}, {}, {}
    for name, maker in contenders(case, arrays, options.contenders).items():
        try:
            running[name], parameters, compiling = started(maker, options.compile_limit)
        except Exception as error:  # of torch.compile anything may come; the others are measured all the same
            signal.alarm(0)
            print(f"{name} is left out: {type(error).__name__}: {' '.join(str(error).split())[:200]}", flush=True)
            continue
        assert parameters == case.parameters, f"{name} has {parameters:,} parameters, not {case.parameters:,}"
        running[name](10)
        began = time.perf_counter()
        running[name](20)
        each = (time.perf_counter() - began) / 20
        print(f"{name}: {compiling:.0f} s to the tenth step, {1000 * each:.2f} ms a step at first", flush=True)
        steps[name] = max(10, round(options.seconds / each / 10) * 10)
        rows[name] = {"contender": name, "compile": compiling, "steps": steps[name], "images_per_second": []}
    for _ in range(options.rounds):
        for name in random.sample(list(running), len(running)):
            began = time.perf_counter()
            running[name](steps[name])
            seconds = time.perf_counter() - began
            rows[name]["images_per_second"].append(steps[name] * case.batch / seconds)
    return sorted(rows.values(), key=lambda row: -statistics.median(row["images_per_second"]))


def versions() -> dict[str, str]:
    """Of what was measured, and the card."""
    found = {"jax": jax.__version__, "card": jax.devices()[0].device_kind}
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return found
    return {**found, "torch": torch.__version__}


def lines(name: str, rows: list[dict], batch: int) -> list[str]:
    """The table of one network, in Markdown."""
    ours = max((row for row in rows if "jaxrec" in row["contender"]), key=_median, default=None)
    out = [f"### {name}", "", "| contender | images/s | ms a step | compile | jaxrec / it |", "|---|---|---|---|---|"]
    for row in rows:
        speeds, ratio = row["images_per_second"], f"{_median(ours) / _median(row):.2f}" if ours else ""
        out.append(
            f"| {row['contender']} | {_median(row):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f}) | "
            f"{1000 * batch / _median(row):.2f} | {row['compile']:.0f} s | {'' if row is ours else ratio} |"
        )
    return [*out, ""]


def _median(row: dict) -> float:
    return statistics.median(row["images_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the name of the networks to measure")
    parser.add_argument("--contenders", default="", help="a regular expression for names of contenders")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each contender in each round, about")
    parser.add_argument("--compile-limit", type=int, default=60, help="seconds")
    parser.add_argument("--batch", type=int, help="instead of the network's own")
    parser.add_argument("--side", type=int, help="of large images, instead of 224")
    parser.add_argument("--out", type=pathlib.Path, help="a JSON file for every round")
    options = parser.parse_args()
    print(versions(), flush=True)
    results = {}
    for name, case in CASES.items():
        if options.only not in name:
            continue
        case = case._replace(batch=options.batch or case.batch)
        if options.side and case.side > 32:
            case = case._replace(side=options.side)
        results[name] = measure(case, options)
        print(*lines(name, results[name], case.batch), sep="\n", flush=True)
        peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
        print(f"jaxrec's peak of memory so far {peak / 2**30:.1f} GiB", flush=True)
        if options.out:
            options.out.write_text(json.dumps({**versions(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
