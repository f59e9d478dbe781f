"""Lets runs diverge on the step before a save, and looks whether anything that was saved is beyond help.

    python benchmarks/poison.py [--trials=20]

The learning rate jumps by a factor of 1e38 at a step drawn at random that is followed by a save: parameters of 1e34 are
finite, and no step can be taken from them. Trials go over a classifier, a VAE and a GAN. A run is poisoned where its
newest checkpoint holds numbers larger than 1e6, where the same command does not come as far as before when it goes on
from there, or where another run that starts from it (train.init_from) does not come through ten steps.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.trees import paths

ROOT = pathlib.Path(__file__).parents[1]
STEPS, EVERY = 100, 10
TASKS = ("digits_cnn", "digits_vae", "digits_gan")
DIVERGED = 76
LARGE = 1e6


def launch(config: str, workdir: pathlib.Path, steps: int, rate: object, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "launch.py", f"--config=configs/{config}.py", f"--workdir={workdir}"]
    command += [f"--config.train.steps={steps}", "--config.train.epochs=None", f"--config.train.log_every={EVERY}"]
    command += [f"--config.train.{name}={EVERY}" for name in ("save_every", "eval_every")]
    command += [f"--config.optimizer.learning_rate={rate}", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def trial(config: str, step: int, folder: pathlib.Path) -> str:
    """Lets a run diverge after `step` steps; what is wrong with what it has left, or "good"."""
    rate = {"name": "step_decay", "peak": 1e-3, "milestones": ((step - 1) / STEPS,), "factor": 1e38, "warmup": 0.0}
    first = launch(config, folder / "run", STEPS, rate)
    if first.returncode != DIVERGED:
        return f"exit code {first.returncode}: {first.stderr[-300:]}"
    told = json.loads((folder / "run" / "nan_report.json").read_text())
    with Checkpoints(folder / "run" / "checkpoints", read_only=True) as checkpoints:
        newest = checkpoints.latest()
        if newest is None:
            return "good" if step <= EVERY else "nothing was saved"
        largest = max(np.abs(np.asarray(leaf, np.float64)).max() for leaf in paths(checkpoints.read(newest)).values())
    if newest >= step or not largest < LARGE:
        return f"step {newest} is saved, and holds {largest:.3g}; the rate rose at {step - 1}"
    again = launch(config, folder / "run", STEPS, rate)
    if again.returncode != DIVERGED or json.loads((folder / "run" / "nan_report.json").read_text()) != told:
        return f"the same command went on from {newest} to something else: {again.stderr[-300:]}"
    other = launch(config, folder / "other", EVERY, 1e-3, f"--config.train.init_from={folder / 'run'}")
    return "good" if other.returncode == 0 else f"a run that starts from it: {other.stderr[-300:]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    good = 0
    for number in range(args.trials):
        config, step = TASKS[number % len(TASKS)], EVERY * int(rng.integers(2, STEPS // EVERY))
        with tempfile.TemporaryDirectory() as folder:
            found = trial(config, step, pathlib.Path(folder))
        good += found == "good"
        print(f"trial {number + 1}: {config}, a save after {step} steps: {found}", flush=True)
    print(f"{args.trials - good} of {args.trials} runs poisoned")
    sys.exit(good != args.trials)


if __name__ == "__main__":
    main()
