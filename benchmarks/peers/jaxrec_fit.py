"""jaxrec's own `fit`, with the hooks that a run has. Evaluation is left out: no other contender does any."""

import pathlib
import tempfile

import jax
import numpy as np
from rich.console import Console

from jaxrec.data import transforms
from jaxrec.data.batches import train_batches
from jaxrec.engine import hooks
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.engine.loop import fit
from jaxrec.engine.program import compile_task
from jaxrec.engine.steps import STEPS_PER_CALL
from jaxrec.output.progress import ProgressLine
from jaxrec.output.records import Records
from jaxrec.tasks.task import Task
from peers.jaxrec_tasks import TASKS
from peers.networks import NETWORKS, family
from peers.turns import Turns

ENDLESS = 10**9  # steps: the turns end the run


def run(task: Task, arrays: dict[str, np.ndarray], batch_size: int, log_every: int, turns: Turns) -> None:
    """Trains a task for as long as there are turns, the way that `launch.py` does."""
    train = train_batches(arrays, batch_size=batch_size, transform=transforms.unit_range)
    log_every = -(-log_every // STEPS_PER_CALL) * STEPS_PER_CALL  # whole calls, as with the default of 50 steps
    program = compile_task(task, train, log_every=log_every)
    turns.facts["parameters"] = sum(leaf.size for leaf in jax.tree.leaves(program.template.params))
    speed = hooks.Speed()
    with (
        tempfile.TemporaryDirectory() as folder,
        open("/dev/null", "w") as nowhere,
        Checkpoints(f"{folder}/checkpoints") as checkpoints,
        Records(pathlib.Path(folder)) as record,
        ProgressLine(ENDLESS, console=Console(file=nowhere, force_terminal=True)) as progress,
    ):
        save = hooks.every(train.per_pass, hooks.save(checkpoints, speed))
        # Last, so that what the other hooks take counts; and the next interval's clock starts after it.
        take_turns = hooks.every(1, lambda moment: turns.tick(moment.examples))
        fit(program, steps=ENDLESS, hooks=[speed, record, progress, hooks.stop_if_diverged, save, take_turns])


def train(name: str, arrays: dict[str, np.ndarray], turns: Turns, channels_last: bool) -> None:
    del channels_last  # as they always are in flax
    network = NETWORKS[name]
    run(TASKS[family(name)](), arrays, network.batch, network.chunk, turns)
