"""What every experiment is asked and what it answers."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from jaxrec.data.pipeline import Batches
from jaxrec.task import Task
from jaxrec.types import Count, Positive

# The sections of a config that name something, {"name": ..., **its arguments}, and where it is found. What each takes
# is read from its signature; see SPECS in `experiments/check.py`.
Data = Mapping  # jaxrec.data.sources
Model = Mapping  # jaxrec.models; the experiment gives `classes`
Loss = Mapping  # jaxrec.losses; the outputs and the batch come at each step
Optimizer = Mapping  # optax: whatever has a learning rate


class Train(NamedTuple):
    """How a run is carried out. Either `steps` or `epochs` is given."""

    batch_size: Count  # over all devices
    steps: Count | None = None
    epochs: Positive | None = None
    log_every: Count = 50  # steps
    eval_every: Count | None = None  # steps, rounded up to a multiple of log_every; an epoch by default
    save_every: Count | None = None  # steps, rounded up likewise; as eval_every by default
    keep: Count = 1  # how many of the newest checkpoints, besides the best
    steps_per_call: Count | None = None  # that the devices take before they ask the host again; see compile_task
    rule: Literal["replicate", "fsdp"] = "replicate"
    parallel: Literal["jit", "pmap"] = "jit"


class Experiment(NamedTuple):
    """A question made runnable."""

    task: Task
    steps: int
    train: Batches
    splits: Mapping[str, Batches]  # one exact pass over each split; "test" is read once, after training
    monitor: str  # the metric that chooses the best checkpoint, of the split "validation"
    mode: Literal["max", "min"]
    table: Callable[[], str]  # the model's layers with shapes and parameter counts
    notes: Mapping[str, Any]  # what the run should remember: class names, moments of the data, ...
