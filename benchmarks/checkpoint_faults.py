"""Damages the checkpoints of a run in every way there is, and looks at what is restored then.

    python benchmarks/checkpoint_faults.py [--flips=8] [--launches=24] [--seed=0] [--config.KEY=VALUE ...]

A run saves three checkpoints. Each fault is done to the newest of a copy of them, and the copy is opened as a run that
goes on opens it: `Checkpoints.latest`, `restore`, `metrics`. What comes back is compared with what each step held, bit
for bit:

    fell back         the step before was taken, its values right, and a warning named the damaged one
    harmless          the newest was taken, its values right
    silently wrong    other values than those of the step came back
    not told          another step was taken, or none, or the one before without a word, or there was a traceback

The step that was damaged is asked for by its number as well: it has to be refused in one line, or be right. Some
faults, drawn by the seed, are repeated through `launch.py`: the run has to end as the unbroken one, bit for bit.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from jaxrec.engine import manifest
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.errors import InputError
from jaxrec.trees import paths

ROOT = pathlib.Path(__file__).parents[1]
RUN = (
    "--config=configs/digits_cnn.py",
    "--config.model.widths=(4,)",
    "--config.model.hidden=(8,)",
    "--config.train.batch_size=16",
    "--config.train.epochs=None",
    "--config.train.steps=60",
    "--config.train.log_every=10",
    "--config.train.save_every=20",
    "--config.train.keep=3",
)
OLDER, NEWEST = "40", "60"

Fault = Callable[[pathlib.Path], None]  # done to a folder of checkpoints


def faults(whole: pathlib.Path, flips: int, rng: np.random.Generator) -> Iterator[tuple[str, Fault]]:
    """Every fault and what it is: of each file, then of whole steps."""
    files = sorted(path.relative_to(whole / NEWEST) for path in (whole / NEWEST).rglob("*") if path.is_file())
    for name in files:
        content = (whole / NEWEST / name).read_bytes()
        for _ in range(flips):
            damaged = bytearray(content)
            damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
            yield f"one bit of {name}", _written(name, bytes(damaged))
        yield f"{name} cut by half", _written(name, content[: len(content) // 2])
        yield f"{name} cut by a byte", _written(name, content[:-1])
        yield f"{name} emptied", _written(name, b"")
        yield f"{name} zeroed", _written(name, bytes(len(content)))
        yield f"{name} random", _written(name, rng.bytes(len(content)))
        yield f"{name} longer", _written(name, content + b"\n")
        yield f"{name} deleted", lambda folder, name=name: (folder / NEWEST / name).unlink()
        yield f"{name} a link", lambda folder, name=name: _linked(folder / NEWEST / name)
        yield f"{name} a folder", lambda folder, name=name: _emptied(folder / NEWEST / name)
        if (whole / OLDER / name).exists():
            yield f"{name} of {OLDER}", _written(name, (whole / OLDER / name).read_bytes())
    yield "a file more", _written(pathlib.Path("default/more"), b"more")
    yield "no step", lambda folder: shutil.rmtree(folder / NEWEST)
    yield "an empty step", lambda folder: _emptied(folder / NEWEST)
    yield f"{OLDER} over {NEWEST}", lambda folder: _copied(folder / OLDER, folder / NEWEST)
    yield f"default of {OLDER}", lambda folder: _copied(folder / OLDER / "default", folder / NEWEST / "default")
    yield "a linked step", lambda folder: _linked(folder / NEWEST)
    yield f"a link to {OLDER}", lambda folder: _linked_to(folder / NEWEST, folder / OLDER)
    yield "a file for a step", lambda folder: (shutil.rmtree(folder / NEWEST), (folder / NEWEST).write_text("mine"))
    for step in ("9999", "61", "100000000000000000000"):
        yield f"an empty {step}", lambda folder, step=step: (folder / step).mkdir()
        yield f"a file {step}", lambda folder, step=step: (folder / step).write_text("mine")
        yield f"{NEWEST} as {step}", lambda folder, step=step: _copied(folder / NEWEST, folder / step)
        yield f"a link {step} to {NEWEST}", lambda folder, step=step: (folder / step).symlink_to(folder / NEWEST)
        yield f"a broken link {step}", lambda folder, step=step: (folder / step).symlink_to(folder / "nowhere")
    for name in (f"{NEWEST}.partial", f"{NEWEST}.partial.orbax-checkpoint-tmp", "80.orbax-checkpoint-tmp", "060", "x"):
        yield f"a folder {name}", lambda folder, name=name: _copied(folder / OLDER, folder / name)
        yield f"a file {name}", lambda folder, name=name: (folder / name).write_text("mine")


def _written(name: pathlib.Path, content: bytes) -> Fault:
    return lambda folder: (folder / NEWEST / name).write_bytes(content)


def _linked(path: pathlib.Path) -> None:
    """Moves what is there out of the folder and leaves a link to it."""
    aside = path.rename(pathlib.Path(tempfile.mkdtemp(dir=os.environ["ASIDE"]), path.name))
    path.symlink_to(aside)


def _linked_to(path: pathlib.Path, target: pathlib.Path) -> None:
    shutil.rmtree(path)
    path.symlink_to(target)


def _emptied(path: pathlib.Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.mkdir()


def _copied(source: pathlib.Path, path: pathlib.Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(source, path)


def held(folder: pathlib.Path) -> dict[int, tuple[dict[str, bytes], str]]:
    """What each step of a folder holds: its arrays, and its metrics."""
    with Checkpoints(folder, read_only=True) as checkpoints:
        return {step: _read(checkpoints, step) for step in checkpoints.steps()}


def _read(checkpoints: Checkpoints, step: int) -> tuple[dict[str, bytes], str]:
    arrays = {path: np.asarray(leaf).tobytes() for path, leaf in paths(checkpoints.read(step)).items()}
    return arrays, json.dumps(checkpoints.metrics(step), sort_keys=True)


def outcome(folder: pathlib.Path, right: dict[int, tuple[dict[str, bytes], str]]) -> str:
    """What a run that goes on makes of a folder of checkpoints."""
    newest = int(NEWEST)
    try:
        with warnings.catch_warnings(record=True) as told, Checkpoints(folder) as checkpoints:
            warnings.simplefilter("always")
            step = checkpoints.latest()
            if step not in (int(OLDER), newest):
                return f"not told: {step} was taken"
            if _read(checkpoints, step) != right[step]:
                return "silently wrong"
            if step != newest and not any(f"{folder}/{newest} is not used" in str(line.message) for line in told):
                return "not told" if os.path.lexists(folder / NEWEST) else "fell back"  # a step that is gone
            with contextlib.suppress(InputError):
                if _read(checkpoints, newest) != right[newest]:
                    return "silently wrong"
            return "harmless" if step == newest else "fell back"
    except Exception as error:
        return f"not told: {type(error).__name__}: {error}"


def launch(folder: pathlib.Path, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "launch.py", *RUN, *flags, f"--workdir={folder}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def resumed(whole: pathlib.Path, again: pathlib.Path, fault: Fault, flags: list[str]) -> str:
    """Whether `launch.py` goes on from a damaged folder to where the unbroken run has come."""
    shutil.copytree(whole, again)
    (again / "result.json").unlink()
    fault(again / "checkpoints")
    process = launch(again, *flags)
    if process.returncode:
        return f"exit code {process.returncode}: {process.stderr[-500:]}"
    results = [json.loads((folder / "result.json").read_text()) for folder in (whole, again)]
    same = all(results[0][key] == results[1][key] for key in ("step", "metrics"))
    same &= (whole / "metrics.jsonl").read_bytes() == (again / "metrics.jsonl").read_bytes()
    same &= held(whole / "checkpoints")[int(NEWEST)][0] == held(again / "checkpoints")[int(NEWEST)][0]
    return "ended as the unbroken run" if same else "ended otherwise"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=8, help="bits in each file, one at a time")
    parser.add_argument("--launches", type=int, default=24, help="of launch.py, a process each")
    parser.add_argument("--seed", type=int, default=0)
    args, flags = parser.parse_known_args()
    rng = np.random.default_rng(args.seed)
    with tempfile.TemporaryDirectory() as place:
        os.environ["ASIDE"] = place
        whole = pathlib.Path(place, "whole")
        process = launch(whole, *flags)
        if process.returncode:
            sys.exit(process.stderr)
        right = held(whole / "checkpoints")
        every = list(faults(whole / "checkpoints", args.flips, rng))
        counts = collections.Counter()
        for number, (what, fault) in enumerate(every):
            folder = pathlib.Path(shutil.copytree(whole / "checkpoints", pathlib.Path(place, f"{number}")))
            fault(folder)
            found = outcome(folder, right)
            counts[found.partition(":")[0]] += 1
            if found not in ("fell back", "harmless"):
                print(f"{what}: {found}", flush=True)
            shutil.rmtree(folder)
        print(f"{len(every)} faults, {len(manifest.sizes(whole / 'checkpoints' / NEWEST)) + 1} files: {dict(counts)}")
        drawn = rng.choice(len(every), size=min(args.launches, len(every)), replace=False)
        ends = collections.Counter()
        for number in drawn:
            what, fault = every[number]
            found = resumed(whole, pathlib.Path(place, f"again_{number}"), fault, flags)
            ends[found.partition(":")[0]] += 1
            if found != "ended as the unbroken run":
                print(f"{what}: {found}", flush=True)
        print(f"{len(drawn)} runs that went on: {dict(ends)}")
    good = counts["fell back"] + counts["harmless"] == len(every) and ends["ended as the unbroken run"] == len(drawn)
    sys.exit(not good)


if __name__ == "__main__":
    main()
