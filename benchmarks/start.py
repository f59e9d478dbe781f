"""How long a run takes to its first step, from the shell, with a cold and with a warm compile cache.

    python benchmarks/start.py [--config=configs/digits_cnn.py] [--rounds=3]

The clock starts before the process and stops when the line of step 1 arrives; lines that a run prints on the way there
tell where the time goes. Both kinds alternate.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
# What has been done when a run prints a line that begins so. The layers' table comes last before compiling.
LANDMARKS = {"cpu x": "JAX started", "total ": "data read, network built", "step 1/": "compiled, first step taken"}


def to_first_step(config: str, cache: str, data: str) -> list[float]:
    """Seconds from the start of the process to each landmark, the end of its first step last."""
    reached = []
    with tempfile.TemporaryDirectory() as workdir:
        began = time.perf_counter()
        process = subprocess.Popen(
            [
                sys.executable,
                "launch.py",
                f"--config={config}",
                f"--workdir={workdir}/run",
                "--config.train.log_every=1",
            ],
            cwd=ROOT,
            env={**os.environ, "XDG_CACHE_HOME": cache, "TFDS_DATA_DIR": data},
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in process.stdout:
            if line.startswith(list(LANDMARKS)[len(reached)]):
                reached.append(time.perf_counter() - began)
            if len(reached) == len(LANDMARKS):
                break
        process.kill()
        process.wait()
    return reached


def main() -> None:
    """Prints the median of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/digits_cnn.py")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    data = os.environ.get("TFDS_DATA_DIR", str(pathlib.Path.home() / "tensorflow_datasets"))
    times: dict[str, list[list[float]]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as warm:
        to_first_step(options.config, warm, data)
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as cold:
                times["cold"].append(to_first_step(options.config, cold, data))
            times["warm"].append(to_first_step(options.config, warm, data))
    for kind, runs in times.items():
        shown = ", ".join(f"{reached[-1]:.1f}" for reached in runs)
        medians = [statistics.median(column) for column in zip(*runs, strict=True)]
        print(f"{kind} compile cache: {medians[-1]:.1f} s to the first step (n = {len(runs)}: {shown})")
        for landmark, second in zip(LANDMARKS.values(), medians, strict=True):
            print(f"  {second:5.1f} s  {landmark}")


if __name__ == "__main__":
    main()
