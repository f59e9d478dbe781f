"""Kills a run again and again, and compares what it ends with to the unbroken run, bit for bit.

    python benchmarks/kills.py --kills=10 --config=configs/digits_cnn.py [--config.KEY=VALUE ...]

Each trial is a run in a folder of its own that is killed (SIGKILL) at a random moment, from the first instant to the
last, and started again by the same command, until all kills are used up. Compared are metrics.jsonl, the metrics of
result.json, and every array of the newest checkpoint.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.trees import paths

ROOT = pathlib.Path(__file__).parents[1]
KILLS_PER_TRIAL = 2


def start(flags: list[str], workdir: pathlib.Path) -> subprocess.Popen:
    command = [sys.executable, "launch.py", *flags, f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"A run failed with exit code {process.returncode}: {errors}")


def trial(flags: list[str], workdir: pathlib.Path, kills: int, seconds: float, rng: np.random.Generator) -> list[int]:
    """Kills a run so often, and lets it come to its end. Returns the steps from which it went on."""
    steps = []
    for _ in range(kills):
        process = start(flags, workdir)
        try:
            process.communicate(timeout=rng.uniform(0.2, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
            steps.append(checkpoints.latest() or 0)
    finish(start(flags, workdir))
    return steps


def differences(one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """What is not the same in two finished runs."""
    found = []
    if (one / "metrics.jsonl").read_bytes() != (other / "metrics.jsonl").read_bytes():
        found.append("metrics.jsonl")
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, other)]
    found += [key for key in ("step", "metrics") if results[0][key] != results[1][key]]
    states = []
    for folder in (one, other):
        with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
            states.append(paths(checkpoints.read(checkpoints.latest())))
    names = states[0].keys() | states[1].keys()
    same = {
        name
        for name in states[0].keys() & states[1].keys()
        if np.asarray(states[0][name]).tobytes() == np.asarray(states[1][name]).tobytes()
    }
    return found + sorted(names - same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args, flags = parser.parse_known_args()
    rng = np.random.default_rng(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = pathlib.Path(folder, "whole")
        finish(start(flags, whole))  # fills the caches
        again = pathlib.Path(folder, "again")
        began = time.perf_counter()
        finish(start(flags, again))
        seconds = time.perf_counter() - began
        print(f"unbroken: {seconds:.1f} s, twice, {differences(whole, again) or 'equal'}", flush=True)
        done = equal = trials = 0
        while done < args.kills:
            kills = min(KILLS_PER_TRIAL, args.kills - done)
            workdir = pathlib.Path(folder, f"trial_{trials}")
            steps = trial(flags, workdir, kills, seconds, rng)
            found = differences(whole, workdir)
            done, trials, equal = done + kills, trials + 1, equal + (not found)
            print(f"trial {trials}: {kills} kills, went on from {steps}: {found or 'equal to the bit'}", flush=True)
    print(f"{equal} of {trials} runs equal to the bit after {done} kills")
    sys.exit(equal != trials)


if __name__ == "__main__":
    main()
