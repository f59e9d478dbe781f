"""Devices: a mesh of all of them, where arrays lie on it, and how one step is compiled for it.

The only module that knows how many devices there are. Models, losses and tasks are written for the global batch; the
batch is split over the mesh's one axis, the state lies by a rule (`replicate`, `fsdp`), and XLA inserts the
communication. `parallel="pmap"` runs the same task once per device instead, for those who think in pmap.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrec.errors import InputError
from jaxrec.types import PyTree

AXIS = "devices"

# Arrays below this many elements stay whole under `fsdp`: gathering them costs more than they take.
FSDP_MIN_SIZE = 1024


def replicate(shapes: PyTree, mesh: Mesh) -> PyTree:
    """Shardings that put a whole copy of every array on every device."""
    return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), shapes)


def fsdp(shapes: PyTree, mesh: Mesh) -> PyTree:
    """Shardings that split every large array along its largest dimension that the devices divide.

    Fully sharded data parallelism (Rajbhandari et al., 2020, ZeRO stage 3): parameters and optimizer state take
    1 / devices of the memory, and each is gathered where the step needs it.
    """

    def shard(array: Any) -> NamedSharding:
        spec: list[str | None] = [None] * len(array.shape)
        divisible = [axis for axis, size in enumerate(array.shape) if size % mesh.size == 0]
        if np.prod(array.shape) >= FSDP_MIN_SIZE and divisible:
            spec[max(divisible, key=lambda axis: array.shape[axis])] = AXIS
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(shard, shapes)


RULES = {"replicate": replicate, "fsdp": fsdp}


class Parallel(NamedTuple):
    """Where things lie and how a step is spread: what the trainer needs to know of devices."""

    mesh: Mesh
    rule: Callable[[PyTree, Mesh], PyTree]
    spread: Callable[[Callable], Callable]  # a step over the global batch -> the step to compile

    def state(self, shapes: PyTree) -> PyTree:
        """Shardings of a state, by the rule."""
        return self.rule(shapes, self.mesh)

    @property
    def whole(self) -> NamedSharding:
        """The sharding of an array that lies whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def on_cpu(self) -> bool:
        """Whether the devices are CPUs."""
        return self.mesh.devices.flat[0].platform == "cpu"

    @property
    def run_once(self) -> dict[str, int]:
        """Compiler options for a program that runs once: on a CPU optimising takes seconds and saves milliseconds."""
        return {"xla_backend_optimization_level": 1} if self.on_cpu else {}

    def everywhere(self, tree: PyTree) -> PyTree:
        """Puts a host tree on every device, whole."""
        return jax.device_put(tree, self.whole)

    def split(self, batch: PyTree, axis: int = 0) -> PyTree:
        """Puts a host batch on the devices, its axis B split over them."""
        return jax.device_put(batch, NamedSharding(self.mesh, PartitionSpec(*[None] * axis, AXIS)))

    def settle(self, outputs: PyTree) -> PyTree:
        """Waits for the outputs of a step if no second one may be in flight, and returns them.

        Several CPU devices share one pool of threads: the collectives of two steps at once wait for each other's
        threads, and XLA aborts the process.
        """
        return jax.block_until_ready(outputs) if self.mesh.size > 1 and self.on_cpu else outputs

    def check_batch(self, size: int) -> None:
        """Raises InputError if the devices do not divide a global batch of this size."""
        if size % self.mesh.size:
            below = size - size % self.mesh.size
            near = " or ".join(str(fits) for fits in (below, below + self.mesh.size) if fits)
            raise InputError(
                f"batch_size = {size}: the global batch is split over {self.mesh.size} devices, which do not divide "
                f"it. Use a multiple of {self.mesh.size}, such as {near}."
            )


def data_parallel(
    devices: Sequence[jax.Device] | None = None,
    *,
    rule: Literal["replicate", "fsdp"] = "replicate",
    parallel: Literal["jit", "pmap"] = "jit",
) -> Parallel:
    """Splits every batch over `devices` (all by default).

    Raises:
      InputError: pmap with any rule but replicate.
    """
    devices = list(jax.devices() if devices is None else devices)
    mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    if parallel == "jit":
        return Parallel(mesh, RULES[rule], lambda step: step)
    if rule != "replicate":
        raise InputError(f"parallel = 'pmap' with rule = '{rule}': pmap replicates the state. Use rule = 'replicate'.")
    return Parallel(mesh, replicate, lambda step: _per_device(step, devices))


def mean_over_devices(tree: PyTree) -> PyTree:
    """Averages over the devices inside a pmapped step; elsewhere, where a step is global, the identity."""
    try:
        jax.lax.axis_index(AXIS)
    except NameError:  # the axis has no name outside pmap
        return tree
    return jax.lax.pmean(tree, AXIS)


def _per_device(step: Callable, devices: list[jax.Device]) -> Callable:
    """Wraps `step(state, batch, key) -> (state, metrics)` or `-> metrics` to run under pmap.

    Everything that is per device stays at this edge: the batch is cut, each device draws from a key of its own,
    metrics merge as they say themselves, and what a step collects besides (batch statistics) is averaged. Gradients
    are averaged where they arise, in `jaxrec.tasks.task.descend`.
    """

    def merged(metrics: PyTree) -> PyTree:
        return {name: metric.across(AXIS) for name, metric in metrics.items()}

    def local(state: PyTree, batch: PyTree, key: jax.Array) -> PyTree:
        out = step(state, batch, jax.random.fold_in(key, jax.lax.axis_index(AXIS)))
        if not isinstance(out, tuple):
            return merged(out)
        state, metrics = out
        return state.replace(extra=jax.lax.pmean(state.extra, AXIS)), merged(metrics)

    mapped = jax.pmap(local, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, devices=devices)

    def spread(state: PyTree, batch: PyTree, key: jax.Array) -> PyTree:
        cut = jax.tree.map(lambda x: jnp.reshape(x, (len(devices), -1, *x.shape[1:])), batch)
        return mapped(state, cut, key)

    return spread
