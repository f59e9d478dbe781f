"""How a process joins a job of several: found by JAX in a cluster, or by address, number and count."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.extend
import numpy as np
from jax._src import clusters, distributed, xla_bridge
from jax._src.lib import _jax
from jax.experimental import multihost_utils

from jaxrec.errors import InputError, reason
from jaxrec.machine.rollcall import roll_call

HEARTBEAT = 15  # seconds without a sign of life after which a process is taken for dead, and all end
HANGS = "jaxrec/hangs"  # where processes that hang tell each other how far they came
ASK_SECONDS = 2.0  # that they give each other for it
JOIN_SECONDS = 300  # that a process waits for the others


class Job(NamedTuple):
    """Which process of how many this is, and where it meets the others."""

    coordinator: str  # "host:port" of process 0, which listens there and nowhere else
    processes: int
    process_id: int  # from 0
    accelerators: Sequence[int] | None = None  # which of this machine's it takes; None: all


def detected(seconds: float = JOIN_SECONDS) -> Job:
    """The job that this process was started for by SLURM, Open MPI or Kubernetes, or on a TPU pod, as JAX finds it out.

    Raises:
      InputError: there is none.
    """
    try:  # `jax.distributed.initialize` asks the same, and does not tell at which address it would listen
        found = clusters.ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, int(seconds))
    except Exception as error:  # whatever a cluster's client raises
        raise InputError(f"--cluster: JAX cannot ask this cluster ({reason(error)[:300]}).") from error
    if None in found[:3]:
        raise InputError(
            "--cluster: JAX finds none here: neither SLURM's srun, nor Open MPI's mpirun, Kubernetes or a TPU pod has "
            "started this process. Say what it is by --coordinator=HOST:PORT --processes=N --process_id=K."
        )
    return Job(*found)


def join(job: Job, *, seconds: float = JOIN_SECONDS) -> None:
    """Makes this process one of the job's; from now on `jax.devices()` are those of all. Before anything asks for them.

    SIGTERM stays Python's: JAX's own handler would only note it. What process 0 prints is the job's; the standard
    output of the others leads nowhere from now on.

    Args:
      job: which.
      seconds: how long to wait for the others.

    Raises:
      InputError: a process is missing or there twice, its numbers are no numbers of a job, or process 0 does not
        answer.
    """
    if not 0 <= job.process_id < job.processes:
        raise InputError(
            f"--process_id={job.process_id} of --processes={job.processes}: {job.processes} processes have the numbers "
            f"0 to {job.processes - 1}."
        )
    own = roll_call(job.coordinator, process_id=job.process_id, processes=job.processes, seconds=seconds)
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        job.coordinator,
        job.processes,
        job.process_id,
        local_device_ids=job.accelerators,
        cluster_detection_method="deactivate",
        coordinator_bind_address=job.coordinator,
        initialization_timeout=max(int(seconds), 1),
        heartbeat_timeout_seconds=HEARTBEAT,
    )
    _let_gloo_listen_at(own)
    with _silent():  # gloo says on standard output that it is connected
        multihost_utils.process_allgather(np.int32(job.process_id))
    if job.process_id:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)


def is_furthest_behind(beats: int) -> bool:
    """Whether this process, which hangs after so many beats, is one that the others wait for.

    All that hang ask at about the same time. One that does not is further behind: it cannot even do that.
    """
    client = distributed.global_state.client
    with contextlib.suppress(Exception):  # where process 0 is gone, nobody knows
        client.key_value_set(f"{HANGS}/{jax.process_index()}", str(beats), allow_overwrite=True)
        time.sleep(ASK_SECONDS)
        told = [int(value) for _, value in client.key_value_dir_get(HANGS)]
        return len(told) == jax.process_count() and beats == min(told)
    return True


def _let_gloo_listen_at(address: str) -> None:
    """CPU devices of several processes add up by gloo, which would listen at whatever the machine's name stands for."""
    client = distributed.global_state.client

    def cpu() -> object:
        return xla_bridge.make_cpu_client(_jax.make_gloo_tcp_collectives(client, hostname=address))

    jax.extend.backend.register_backend_factory("cpu", cpu, priority=0, fail_quietly=False)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing of what is written to standard output, by C++ too, is seen."""
    kept = os.dup(1)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
