"""How long a run takes to its first step, from the shell, with a cold and with a warm compile cache.

    python benchmarks/start.py [--config=configs/digits_cnn.py] [--rounds=3]

The clock starts before the process and stops when the line of step 1 arrives. Both kinds alternate.
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


def to_first_step(config: str, cache: str, data: str) -> float:
    """Seconds from the start of the process to the end of its first step."""
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
            if line.startswith("step 1/"):
                break
        took = time.perf_counter() - began
        process.kill()
        process.wait()
    return took


def main() -> None:
    """Prints the median of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/digits_cnn.py")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    data = os.environ.get("TFDS_DATA_DIR", str(pathlib.Path.home() / "tensorflow_datasets"))
    times: dict[str, list[float]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as warm:
        to_first_step(options.config, warm, data)
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as cold:
                times["cold"].append(to_first_step(options.config, cold, data))
            times["warm"].append(to_first_step(options.config, warm, data))
    for kind, seconds in times.items():
        shown = ", ".join(f"{second:.1f}" for second in seconds)
        print(
            f"{kind} compile cache: {statistics.median(seconds):.1f} s to the first step (n = {len(seconds)}: {shown})"
        )


if __name__ == "__main__":
    main()
