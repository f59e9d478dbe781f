"""Devices: a mesh of all of them, where arrays lie on it, and how one step is compiled for it.

The only module that knows how many devices there are. Models, losses and tasks are written for the global batch; the
batch is split over the mesh's one axis, the state lies by a rule (`replicate`, `fsdp`), and XLA inserts the
communication. `parallel="pmap"` runs the same task once per device instead, for those who think in pmap.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrec.errors import InputError
from jaxrec.trees import paths
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
    1 / devices of the memory between steps. `jaxrec.tasks.task.descend` gathers the parameters for the gradient, whose
    forward and backward pass hold them whole, and has each device get its part of the mean gradient; the optimizer
    works on parts alone.
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
    def repeatable(self) -> dict[str, bool]:
        """Compiler options for the same bits in every run: left alone, a GPU adds some things up in no fixed order."""
        on_gpu = self.mesh.devices.flat[0].platform == "gpu"
        return {"xla_gpu_exclude_nondeterministic_ops": True} if on_gpu else {}

    @property
    def run_once(self) -> dict[str, bool | int]:
        """`repeatable` for a program that runs once: on a CPU optimising takes seconds and saves milliseconds."""
        return {**self.repeatable, **({"xla_backend_optimization_level": 1} if self.on_cpu else {})}

    def everywhere(self, tree: PyTree) -> PyTree:
        """Puts a host tree on every device, whole; each of several processes gives the same."""
        if jax.process_count() == 1:
            return jax.device_put(tree, self.whole)

        def put(leaf: Any) -> jax.Array:
            if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:  # it lies on all devices already
                return jax.device_put(leaf, self.whole)
            copies = [jax.device_put(leaf, device) for device in self.mesh.local_devices]
            return jax.make_array_from_single_device_arrays(copies[0].shape, self.whole, copies)

        return jax.tree.map(put, tree)

    def split(self, batch: PyTree, axis: int = 0) -> PyTree:
        """Puts a host batch on the devices, its axis B split over them; each of several processes gives its part."""
        sharding = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, AXIS))
        if jax.process_count() == 1:
            return jax.device_put(batch, sharding)
        own = self.mesh.local_devices

        def put(rows: np.ndarray) -> jax.Array:
            parts = map(jax.device_put, np.split(rows, len(own), axis), own)
            size = rows.shape[axis] * self.mesh.size // len(own)
            shape = (*rows.shape[:axis], size, *rows.shape[axis + 1 :])
            return jax.make_array_from_single_device_arrays(shape, sharding, list(parts))

        return jax.tree.map(put, batch)

    def least(self, number: int) -> int:
        """The least of the numbers that the processes give, each at the same place of the program."""
        if jax.process_count() == 1:
            return number
        with jax.transfer_guard("allow"):
            return int(multihost_utils.process_allgather(np.int32(number)).min())

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
      InputError: pmap with any rule but replicate, or in several processes.
    """
    devices = list(jax.devices() if devices is None else devices)
    if jax.process_count() == 1:
        mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    else:  # the rows of a batch lie on the devices of the process that delivers them, in whatever order JAX counts them
        devices.sort(key=lambda device: (device.process_index, device.id))
        mesh = Mesh(devices, (AXIS,), axis_types=(AxisType.Auto,))
    if parallel == "jit":
        return Parallel(mesh, RULES[rule], lambda step: _split(step, mesh) if rule == "fsdp" else step)
    if jax.process_count() > 1:
        raise InputError("parallel = 'pmap' is for the devices of one process. Use parallel = 'jit' with several.")
    if rule != "replicate":
        raise InputError(f"parallel = 'pmap' with rule = '{rule}': pmap replicates the state. Use rule = 'replicate'.")
    return Parallel(mesh, replicate, lambda step: _per_device(step, devices))


# The mesh over which `fsdp` splits the parameters, inside a step that is traced for it. Part of the key of jit's cache.
_splitting = jax.make_user_context(default_value=None)


def gathered(params: PyTree) -> PyTree:
    """The parameters whole on every device, where `fsdp` has split them; elsewhere the identity."""
    mesh = _splitting.value
    return params if mesh is None else jax.lax.with_sharding_constraint(params, NamedSharding(mesh, PartitionSpec()))


def scattered(grads: PyTree) -> PyTree:
    """The gradients as parameters of their shape lie, so that under `fsdp` each device adds up its part alone."""
    mesh = _splitting.value
    return grads if mesh is None else jax.lax.with_sharding_constraint(grads, fsdp(grads, mesh))


def mean_over_devices(tree: PyTree) -> PyTree:
    """Averages over the devices inside a pmapped step; elsewhere, where a step is global, the identity."""
    try:
        jax.lax.axis_index(AXIS)
    except NameError:  # the axis has no name outside pmap
        return tree
    return jax.lax.pmean(tree, AXIS)


def _split(step: Callable, mesh: Mesh) -> Callable:
    """The step under `fsdp`."""

    def spread(state: PyTree, batch: PyTree, key: jax.Array) -> PyTree:
        with _splitting(mesh):
            return step(state, batch, key)

    return spread


def _per_device(step: Callable, devices: list[jax.Device]) -> Callable:
    """Wraps `step(state, batch, key) -> (state, metrics)` or `-> metrics` to run under pmap.

    Everything that is per device stays at this edge: the batch is cut, each device draws from a key of its own, and
    metrics merge as they say themselves. Gradients are averaged where they arise, in `jaxrec.tasks.task.descend`. Of
    the new state, what is equal on all devices stays and batch statistics are averaged.

    Raises:
      InputError: when traced, where anything else of the new state differs between devices.
    """

    def local(state: PyTree, batch: PyTree, key: jax.Array) -> PyTree:
        return step(state, batch, jax.random.fold_in(key, jax.lax.axis_index(AXIS)))

    def spread(state: PyTree, batch: PyTree, key: jax.Array) -> PyTree:
        cut = jax.tree.map(lambda x: jnp.reshape(x, (len(devices), -1, *x.shape[1:])), batch)
        averaged = _to_average(local, state, cut, key)

        def merged(state: PyTree, batch: PyTree, key: jax.Array) -> PyTree:
            out = local(state, batch, key)
            *new, metrics = out if isinstance(out, tuple) else (out,)
            leaves, structure = jax.tree.flatten(new)
            leaves = [jax.lax.pmean(x, AXIS) if own else x for x, own in zip(leaves, averaged, strict=True)]
            metrics = {name: metric.across(AXIS) for name, metric in metrics.items()}
            return (*jax.tree.unflatten(structure, leaves), metrics) if new else metrics

        return jax.pmap(merged, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, devices=devices)(
            state, cut, key
        )

    return spread


def _to_average(local: Callable, state: PyTree, cut: PyTree, key: jax.Array) -> list[bool]:
    """Which leaves of a step's new state are averaged under pmap: those that each device finds a value of its own for.

    Nothing is computed: vmap follows what depends on the device's part of the batch, and a mean over the axis does not.
    """
    own: list[bool] = []

    @jax.custom_batching.custom_vmap
    def watched(new: PyTree) -> PyTree:
        return new

    @watched.def_vmap
    def _(size: int, batched: list[PyTree], new: PyTree) -> tuple[PyTree, PyTree]:
        del size
        own.extend(jax.tree.leaves(batched[0]))
        return new, batched[0]

    def new_state(state: PyTree, batch: PyTree, key: jax.Array) -> PyTree:
        out = local(state, batch, key)
        return watched(out[0]) if isinstance(out, tuple) else ()

    new = jax.eval_shape(jax.vmap(new_state, in_axes=(None, 0, None), axis_name=AXIS), state, cut, key)
    names = list(paths(new))
    own = own or [False] * len(names)
    for name, differs in zip(names, own, strict=True):
        if differs and "batch_stats" not in name.split("/"):
            raise InputError(
                f"parallel = 'pmap': each device finds a {name} of its own, and one state is kept. Take gradients "
                "through jaxrec.tasks.task.descend, average what else is meant to be a mean by "
                "jaxrec.sharding.mean_over_devices, or use parallel = 'jit'."
            )
    if any(own):
        warnings.warn(
            "parallel = 'pmap': each device normalises its part of the batch by the part's own statistics. "
            "jaxrec.layers.BatchNorm sees the whole batch.",
            stacklevel=2,
        )
    return own
