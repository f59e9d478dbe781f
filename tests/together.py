"""What two processes do together, for test_processes.py: started by the supervisor, process 0 prints what it found."""

import json
import os
import pathlib
import sys
import threading
from unittest import mock

import jax
import numpy as np

from jaxrec.data.batches import train_batches
from jaxrec.engine import manifest
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.errors import InputError
from jaxrec.machine import agreement, cluster, exits
from jaxrec.sharding import Parallel, data_parallel


def refused(action, *arguments, **options) -> str | None:
    """The line in which something is refused."""
    try:
        action(*arguments, **options)
    except InputError as error:
        return str(error)
    return None


def whole(parallel: Parallel, array: jax.Array) -> list:
    """All of an array that is split over the processes."""
    return np.asarray(jax.jit(lambda rows: rows, out_shardings=parallel.whole)(array)).tolist()


def listening() -> list[str]:
    """The addresses at which this process listens, in hexadecimal."""
    files = pathlib.Path("/proc/self/fd").iterdir()
    own = {os.readlink(file) for file in files if os.path.lexists(file)}
    tables = (pathlib.Path("/proc/net", name).read_text() for name in ("tcp", "tcp6"))
    rows = [row.split() for table in tables for row in table.splitlines()[1:]]
    return sorted(row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own)


def checkpoints(folder: pathlib.Path, parallel: Parallel, me: int) -> dict[str, list]:
    """What one process has saved, restored in two, and what two save, restored in them."""
    tree = {"whole": parallel.everywhere(np.arange(6.0)), "split": parallel.split(np.arange(4.0) + 4 * me)}
    template = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) for name, leaf in tree.items()
    }
    with Checkpoints(folder / "one", read_only=True) as one, Checkpoints(folder / "both", keep=1) as both:
        for step in (1, 2):
            both.save(step, tree)
        return {
            "one": [whole(parallel, leaf) for leaf in jax.tree.leaves(one.restore(template, 1))],
            "both": [whole(parallel, leaf) for leaf in jax.tree.leaves(both.restore(template, both.latest()))],
        }


def two_folders(folder: pathlib.Path, parallel: Parallel) -> list[int]:
    """The steps in two folders that save one step at once: the second has it while process 0 still writes the first."""
    write, second_is_there = manifest.write, threading.Event()

    def late(partial: pathlib.Path, step: int) -> None:
        if partial.parent.name == "first":
            second_is_there.wait(60)
        write(partial, step)

    tree = {"whole": parallel.everywhere(np.arange(6.0))}
    with (
        mock.patch.object(manifest, "write", late),
        Checkpoints(folder / "first") as first,
        Checkpoints(folder / "second") as second,
    ):
        first.save(1, tree)
        second.save(1, tree)
        second.wait()
        second_is_there.set()
        return [first.latest(), second.latest()]


def main() -> int:
    flags = dict(word.lstrip("-").split("=") for word in sys.argv[1:])
    me, folder = int(flags["process_id"]), pathlib.Path(os.environ["FOLDER"])
    cluster.join(cluster.Job(flags["coordinator"], int(flags["processes"]), me), seconds=60)
    print("process", me)
    parallel, check = data_parallel(), agreement.check_agreement
    batches = train_batches({"image": np.zeros((21, 2))}, batch_size=8, seed=3)
    found = {
        "coordinator": flags["coordinator"],
        "least": [parallel.least(number) for number in (3 + me, 3 - me)],
        "agreed": refused(check, {"config": {"seed": 0}}),
        "facts": refused(check, {"config": {"seed": me, "steps": 5}}),
        "state": refused(agreement.check_same_state, {"kernel": parallel.everywhere(np.full(3, 1.0 + me))}),
        "pmap": refused(data_parallel, parallel="pmap"),
        "key": jax.random.key_data(parallel.everywhere(jax.random.key(5))).tolist(),
        "ids": [whole(parallel, parallel.split(batches.host(step)["id"])) for step in range(6)],
        "listening": listening(),
        **checkpoints(folder, parallel, me),
        "two_folders": two_folders(folder, parallel),
    }
    if me == 0:
        print(json.dumps(found), flush=True)
    parallel.least(1)  # process 0 has printed
    with Checkpoints(folder / "last") as last:
        last.save(1, {"whole": parallel.everywhere(np.arange(6.0))})  # nobody has waited for it when process 1 fails
        if me:
            raise RuntimeError("out of luck")
        parallel.least(1)  # waits for process 1
    return 0


if __name__ == "__main__":
    exits.end(main)
