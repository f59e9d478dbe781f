"""Kills a run again and again, and compares what it ends with to the unbroken run, bit for bit.

    python benchmarks/kills.py --kills=10 --config=configs/digits_cnn.py [--config.KEY=VALUE ...]
    python benchmarks/kills.py --kills=10 --signal=TERM --config=configs/digits_cnn.py

Each trial is a run in a folder of its own that is killed (SIGKILL, or another signal) at a random moment, from the
first instant to the last, and started again by the same command, until all kills are used up. Compared are
metrics.jsonl, the metrics of result.json, and every array of the newest checkpoint. A signal that a run answers, TERM
or INT, has to be answered in time and with its exit code too.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.machine.signals import CODES
from jaxrec.trees import paths

ROOT = pathlib.Path(__file__).parents[1]
KILLS_PER_TRIAL = 2
IN_TIME = 10.0  # seconds, on a machine that does other things besides


def start(flags: list[str], workdir: pathlib.Path) -> subprocess.Popen:
    command = [sys.executable, "launch.py", *flags, f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"A run failed with exit code {process.returncode}: {errors}")


def trial(
    flags: list[str], workdir: pathlib.Path, kills: int, seconds: float, rng: np.random.Generator, how: signal.Signals
) -> list[int]:
    """Kills a run so often, and lets it come to its end. Returns the steps from which it went on."""
    steps = []
    for _ in range(kills):
        process = start(flags, workdir)
        try:
            process.communicate(timeout=rng.uniform(0.02, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(how)
            sent = time.perf_counter()
            _, errors = process.communicate()
            took = time.perf_counter() - sent
            if how in CODES and (process.returncode not in (CODES[how], 0) or took > IN_TIME):
                sys.exit(f"{how.name} was answered after {took:.1f} s by exit code {process.returncode}: {errors}")
        steps.append(max(map(newest, (workdir / "checkpoints", workdir / "interrupted"))))
    finish(start(flags, workdir))
    return steps


def newest(folder: pathlib.Path) -> int:
    """The step that a folder of checkpoints holds, 0 where there is none."""
    if not folder.exists():
        return 0
    with Checkpoints(folder, read_only=True) as checkpoints:
        return checkpoints.latest() or 0


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
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT"), default="KILL")
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
            steps = trial(flags, workdir, kills, seconds, rng, signal.Signals[f"SIG{args.signal}"])
            found = differences(whole, workdir)
            done, trials, equal = done + kills, trials + 1, equal + (not found)
            print(f"trial {trials}: {kills} kills, went on from {steps}: {found or 'equal to the bit'}", flush=True)
    print(f"{equal} of {trials} runs equal to the bit after {done} kills")
    sys.exit(equal != trials)


if __name__ == "__main__":
    main()
