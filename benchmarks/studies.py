"""Searches that are killed, and a search against a grid.

    PYTHONPATH=. python benchmarks/studies.py --kills=10              two processes at once, killed again and again
    PYTHONPATH=. python benchmarks/studies.py --against_grid --studies=3

The first: two processes work on one small search on the digits; at random moments one of them, or both, get SIGKILL and
are started again by the same command, until all kills are used up. In the end every trial is there once and is over,
and what each trial's run has recorded is that of an unbroken run.

The second: TPE with ASHA, 40 trials of configs/digits_cnn.py over learning rate, dropout and weight decay, against the
12 points of a grid over the same, each of the full length. Both have the study's number for a seed.
"""

import argparse
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

from experiments.study import open_study
from jaxrec.output.records import read

ROOT = pathlib.Path(__file__).parents[1]
RATE = "optimizer.learning_rate.init_value"
SMALL = (
    "--config=configs/digits_cnn.py",
    "--config.model={'name': 'MLP', 'widths': (16,)}",
    "--config.train.epochs=None",
    "--config.train.steps=270",
    "--config.train.log_every=10",
    "--config.train.eval_every=30",
    f"--space.{RATE}=log 1e-4 1e-1",
    "--space.model.dropout=float 0 0.6",
    "--pruner=asha",
)
SEARCH = (
    f"--space.{RATE}=log 3e-4 3e-2",
    "--space.model.dropout=float 0 0.6",
    "--space.optimizer.weight_decay=log 1e-3 1e-1",
    "--method=tpe",
    "--pruner=asha",
    "--trials=40",
)
GRID = (
    f"--space.{RATE}=3e-4,3e-3,3e-2",
    "--space.model.dropout=0.0,0.5",
    "--space.optimizer.weight_decay=1e-3,1e-1",
    "--method=grid",
)


def start(flags: list[str] | tuple[str, ...], workdir: pathlib.Path) -> subprocess.Popen:
    command = [sys.executable, "launch.py", "sweep", *flags, f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"A search failed with exit code {process.returncode}: {errors}")


def kill(kills: int, trials: int, seed: int) -> bool:
    """Returns whether nothing was lost or doubled."""
    draw, flags = random.Random(seed), [*SMALL, f"--trials={trials}"]
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder, "search")
        workers = [start(flags, workdir) for _ in range(2)]
        done = 0
        while done < kills and any(worker.poll() is None for worker in workers):
            time.sleep(draw.uniform(4, 20))
            for place in draw.sample(range(2), k=draw.choice((1, 1, 2))):
                if done < kills and workers[place].poll() is None:
                    workers[place].send_signal(signal.SIGKILL)
                    workers[place].communicate()
                    workers[place] = start(flags, workdir)
                    done += 1
        for worker in workers:
            finish(worker)
        return judged(workdir, trials, done)


def judged(workdir: pathlib.Path, trials: int, kills: int) -> bool:
    """Prints what became of a search, and returns whether it is whole."""
    study = open_study(workdir, mode="max", method="random", pruner="asha", seed=0).optuna
    states = Counter(trial.state.name for trial in study.trials)
    faults = (
        [] if [trial.number for trial in study.trials] == list(range(trials)) else ["trials are not those asked for"]
    )
    faults += [f"trial {trial.number} is {trial.state.name}" for trial in study.trials if not trial.state.is_finished()]
    for trial in study.trials:
        run = workdir / "trials" / f"{trial.number:04d}"
        steps = [record["step"] for record in read(run / "metrics.jsonl")]
        if steps != list(range(10, steps[-1] + 1, 10)):
            faults.append(f"trial {trial.number} has recorded {steps}")
        if trial.state.name == "COMPLETE" and steps[-1] != 270:
            faults.append(f"trial {trial.number} ended at step {steps[-1]}")
    print(f"{kills} kills, two processes: {dict(states)}, {faults or 'none lost, none doubled'}", flush=True)
    return not faults


def against_grid(studies: int) -> bool:
    """Returns whether a search was never slower than ten minutes, or worse than the grid."""
    good = True
    for seed in range(studies):
        with tempfile.TemporaryDirectory() as folder:
            found = {}
            for name, flags in (("search", SEARCH), ("grid", GRID)):
                workdir = pathlib.Path(folder, name)
                began = time.perf_counter()
                finish(start(["--config=configs/digits_cnn.py", f"--config.seed={seed}", *flags], workdir))
                seconds = time.perf_counter() - began
                pruner = json.loads((workdir / "sweep.json").read_text())["pruner"]
                study = open_study(workdir, mode="max", method="random", pruner=pruner, seed=0)
                best = study.ranked()[0]
                test = json.loads((study.trial_folder(best.number) / "result.json").read_text())["metrics"]["test"]
                states = Counter(trial.state.name for trial in study.optuna.trials)
                found[name] = (best.value, seconds)
                print(
                    f"seed {seed}, {name}: {seconds:.0f} s, {dict(states)}, validation {best.value:.4f}, "
                    f"test {test['accuracy']:.4f}, {best.params}",
                    flush=True,
                )
            good &= found["search"][0] >= found["grid"][0] and found["search"][1] <= 600
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--trials", type=int, default=16, help="of the search that is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--against_grid", action="store_true")
    parser.add_argument("--studies", type=int, default=3)
    args = parser.parse_args()
    sys.exit(not (against_grid(args.studies) if args.against_grid else kill(args.kills, args.trials, args.seed)))


if __name__ == "__main__":
    main()
