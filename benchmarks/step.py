"""Where a training step goes on a CPU: the share of each operation of the compiled program, by JAX's profiler.

    python benchmarks/step.py [--network="ResNet-20, 128"] [--most=25]

Operations have the names that XLA gives them; those that it writes from one pattern (`transpose_copy_fusion.3`) are one
row. What runs inside a loop counts for itself, not for the loop. Operations overlap where the devices have several
threads, so their sum may be more than the step; less of it is waiting, or what the profiler does not see.
"""

import argparse
import collections
import gzip
import json
import pathlib
import re
import tempfile
import time

import jax
from peers.jaxrec_program import program_of
from peers.networks import NETWORKS

STEPS = 10  # that are looked at
OUTER = re.compile(r"(while|call|conditional)\b")  # operations that hold others


def operations(trace: pathlib.Path) -> dict[str, tuple[int, float]]:
    """The operations of a trace: name without its number -> (how often, seconds in all)."""
    (file,) = trace.glob("plugins/profile/*/*.trace.json.gz")
    found: dict[str, tuple[int, float]] = collections.defaultdict(lambda: (0, 0.0))
    for event in json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]:
        operation = event.get("args", {}).get("hlo_op")
        if operation and not OUTER.match(operation):
            name = re.sub(r"(\.\d+)+(\.clone)?$", "", operation)
            count, seconds = found[name]
            found[name] = count + 1, seconds + event["dur"] / 1e6
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="ResNet-20, 128")
    parser.add_argument("--most", type=int, default=25, help="rows, the largest first")
    options = parser.parse_args()
    program = program_of(options.network, log_every=STEPS)
    state, *_ = program.train(program.init(), 0, STEPS)
    jax.block_until_ready(state)
    quiet = jax.profiler.ProfileOptions()
    quiet.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=quiet):
            start = time.perf_counter()
            state, *_ = program.train(state, STEPS, 2 * STEPS)
            jax.block_until_ready(state)
            whole = time.perf_counter() - start
        found = operations(pathlib.Path(folder))
    total = sum(seconds for _, seconds in found.values())
    print(f"{options.network}, jax {jax.__version__}: {1000 * whole / STEPS:.2f} ms a step, "
          f"{1000 * total / STEPS:.2f} ms in {len(found)} kinds of operations")  # fmt: skip
    for name, (count, seconds) in list(found.items())[: options.most]:
        print(f"{seconds / whole:6.1%}  {1000 * seconds / STEPS:8.3f} ms  {count / STEPS:6.1f} times  {name}")


if __name__ == "__main__":
    main()
