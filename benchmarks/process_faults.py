"""Strikes one process of a job, and looks at how the job ends: in time, with the right code, named, without orphans.

    python benchmarks/process_faults.py [--processes=2,4] [--faults=SIGKILL,...] [--restarts]

Each trial is a run of `launch.py --processes=N` (for "missing" and "duplicate" N commands of their own) in which one
process is killed, stopped, raises, exits, hangs in its data or in its loop, never starts, or comes twice. Written down
are the seconds from the fault until no process is left, the exit code, whether the last line on stderr names the
process, whether the stack of the one that hangs is shown, and the processes left over. With --restarts the run is begun
anew once by `--restarts=1`, and compared with the unbroken run, to the bit.
"""

import argparse
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import kills

ROOT = pathlib.Path(__file__).parents[1]
FAULTS = ("SIGKILL", "SIGSTOP", "exception", "exit", "data", "step", "missing", "duplicate")
HANG_SECONDS, JOIN_SECONDS, LIMIT = 5, 5, 20
PATIENT_SECONDS = 60  # where a run is to come to its end, and compiles in between
STACKS = {"data": "stuck_in_data", "step": "stuck_in_step"}
CODES = {"data": 77, "step": 77, "missing": 2, "duplicate": 2}  # the others: 1
RUN = (
    "--config=configs/digits_cnn.py",
    "--config.experiment=benchmarks.faulty",
    "--config.train={'batch_size': 16, 'steps': 60, 'log_every': 10, 'eval_every': 20, 'evaluate_train': False}",
    "--config.model={'name': 'MLP', 'widths': (8,)}",
    "--platform=cpu",
)


def start(folder: pathlib.Path, name: str, *flags: str, hang: float = HANG_SECONDS) -> subprocess.Popen:
    """Starts launch.py; what it says on stderr goes to a file."""
    command = [
        sys.executable,
        "launch.py",
        *RUN,
        f"--workdir={folder / name}",
        f"--hang_seconds={hang}",
        *flags,
    ]
    environment = {**os.environ, "PROCESS_FAULTS": str(folder)}  # by which its processes are found
    with (folder / f"{name}.stderr").open("w") as stderr:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)


def left_over(folder: pathlib.Path) -> list[int]:
    """The processes of this trial that are there, zombies left out."""
    found = []
    for each in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"PROCESS_FAULTS={folder}".encode() in (each / "environ").read_bytes().split(b"\0"):
                found.append(int(each.name))
        except OSError:  # it has ended, or is none of ours
            continue
    return found


def struck(folder: pathlib.Path, fault: str, processes: int) -> tuple[str, bool]:
    """One trial without a restart: a row of the table, and whether all is as it should be."""
    marker, last, began = folder / "struck", processes - 1, time.time()
    if fault in ("missing", "duplicate"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            coordinator = f"127.0.0.1:{free.getsockname()[1]}"
        ids = [*range(last), *([last - 1] if fault == "duplicate" else [])]
        if processes == 2 and fault == "duplicate":
            processes, ids = 3, [0, 1, 1]
        flags = (f"--coordinator={coordinator}", f"--processes={processes}", f"--join_seconds={JOIN_SECONDS}")
        jobs = [start(folder, f"{place}", *flags, f"--process_id={each}") for place, each in enumerate(ids)]
        named = f"process {last}" if fault == "missing" else f"process {ids[-1]} of"
    else:
        strike = (f"--config.fault={fault}", f"--config.process={last}", f"--config.marker={marker}")
        jobs = [start(folder, "0", *strike, f"--processes={processes}")]
        named = f"process {last} of {processes} was the first to fail"
    codes = [job.wait(timeout=300) for job in jobs]
    began = marker.stat().st_mtime if marker.exists() else began
    while left_over(folder) and time.time() < began + LIMIT:
        time.sleep(0.1)
    seconds = time.time() - began
    orphans = left_over(folder)
    said = [(folder / f"{place}.stderr").read_text() for place in range(len(jobs))]
    lines = [text.splitlines()[-1] if text else "" for text in said]
    stack = STACKS.get(fault, "") in said[0]
    limit = HANG_SECONDS + 5 if fault in STACKS else LIMIT
    code = CODES.get(fault, 1)
    good = set(codes) == {code} and all(named in line for line in lines) and stack and not orphans and seconds <= limit
    row = f"{fault:10} {processes:9} {seconds:7.1f} {codes[0]:5} {len(orphans):8}   {lines[0]}"
    return row, good


def restarted(folder: pathlib.Path, whole: pathlib.Path, fault: str, processes: int) -> list[str]:
    """One trial with a restart: what differs from the unbroken run."""
    strike = (f"--config.fault={fault}", f"--config.process={processes - 1}", f"--config.marker={folder / 'struck'}")
    hang = HANG_SECONDS * 3 if fault in STACKS else PATIENT_SECONDS
    flags = (*strike, f"--processes={processes}", "--restarts=1")
    code = start(folder, "run", *flags, hang=hang).wait(timeout=600)
    if code or not (folder / "struck").exists():
        return [f"exit code {code}"]
    return kills.differences(whole, folder / "run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", default="2,4")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--restarts", action="store_true", help="compare with the unbroken run after one restart")
    args = parser.parse_args()
    bad = trials = 0
    for processes in map(int, args.processes.split(",")):
        with tempfile.TemporaryDirectory() as whole:
            if args.restarts:
                unbroken = start(pathlib.Path(whole), "whole", f"--processes={processes}", hang=PATIENT_SECONDS)
                if unbroken.wait():
                    sys.exit(f"The unbroken run failed: {pathlib.Path(whole, 'whole.stderr').read_text()}")
            print(f"{'fault':10} processes seconds  code left over   last line on stderr", flush=True)
            for fault in args.faults.split(","):
                with tempfile.TemporaryDirectory() as folder:
                    if not args.restarts:
                        row, good = struck(pathlib.Path(folder), fault, processes)
                    elif fault in CODES and fault not in STACKS:
                        continue  # there is nothing to start anew
                    else:
                        found = restarted(pathlib.Path(folder), pathlib.Path(whole, "whole"), fault, processes)
                        row, good = f"{fault:10} {processes:9}   {found or 'equal to the bit'}", not found
                    trials, bad = trials + 1, bad + (not good)
                    print(f"{row}{'' if good else '   WRONG'}", flush=True)
    print(f"{trials - bad} of {trials} trials as they should be")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
