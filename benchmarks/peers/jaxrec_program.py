"""A network of the speed benchmark as a compiled program on random images, for scripts that look at jaxrec alone."""

import numpy as np

from jaxrec.data import transforms
from jaxrec.data.batches import train_batches
from jaxrec.engine.program import Program, compile_task
from peers.jaxrec_tasks import TASKS
from peers.networks import NETWORKS, family

BATCHES = 16


def program_of(name: str, *, log_every: int) -> Program:
    """Compiles the training step of a network, with as many steps in a call as fit into `log_every`."""
    network = NETWORKS[name]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCHES * network.batch, *network.shape), dtype=np.uint8)
    arrays = {"image": images, "label": rng.integers(0, 10, len(images)).astype(np.int32)}
    train = train_batches(arrays, batch_size=network.batch, transform=transforms.unit_range)
    return compile_task(TASKS[family(name)](), train, log_every=log_every)
