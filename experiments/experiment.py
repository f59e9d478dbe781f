"""The interface of experiments: the section `train` that each gets, and the Experiment that each returns."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from optax import Schedule

from experiments.settings.flags import Reads
from experiments.settings.make import bound, imported
from experiments.settings.schema import experiment_module
from jaxrec.data.batches import Batches
from jaxrec.engine.loop import Hook
from jaxrec.engine.program import Program, compile_task
from jaxrec.sharding import Parallel, data_parallel
from jaxrec.tasks.skipping import skipping
from jaxrec.tasks.task import State, Task
from jaxrec.types import Array, Count, Pattern, Positive


class Train(NamedTuple):
    """How a run is carried out. Either `steps` or `epochs` is given."""

    batch_size: Count  # over all devices
    steps: Count | None = None
    epochs: Positive | None = None
    log_every: Count = 50  # steps
    eval_every: Count | None = None  # steps, rounded up to a multiple of log_every; an epoch by default
    save_every: Count | None = None  # likewise; as eval_every by default, since only what is saved can be the best
    save_seconds: Positive | None = None  # since the save before, unless this state is the best so far; else each one
    keep: Count = 1  # how many of the newest checkpoints, besides the best
    patience: Count | None = None  # evaluations without improvement after which the run ends early
    init_from: str | None = None  # the folder of a run whose parameters this one starts from
    submodule: str | None = None  # which submodule of that run's network is all of this one's, such as "encoder"
    reinit: Pattern | None = None  # the paths of what is initialised all the same, such as "^Dense_1/"
    steps_per_call: Count | None = None  # that the devices take before they ask the host again; see compile_task
    nonfinite: Literal["raise", "skip"] = "raise"  # at NaN or Inf: the run ends, or the step is not taken
    skip_at_most: Count = 10  # steps in a row, before the run ends all the same
    evaluate_train: bool = True  # whether a finished run has metrics of the train split too: one more pass over it
    rule: Literal["replicate", "fsdp"] = "replicate"
    parallel: Literal["jit", "pmap"] = "jit"


class FinishedRun(NamedTuple):
    """What there is to analyse once the best state is chosen."""

    state: State
    splits: Mapping[str, Batches]
    evaluate: Callable[..., Mapping[str, float | np.ndarray]]  # (batches, measure): as `Program.evaluate`
    workdir: pathlib.Path  # where pictures and tables go


class Experiment(NamedTuple):
    """What a run trains, on what, and how it is judged."""

    task: Task
    steps: int
    train: Batches
    splits: Mapping[str, Batches]  # one exact pass over each split; "test" is read once, after training
    monitor: str | None  # the metric that chooses the best checkpoint, of the split "validation"; None: the newest
    mode: Literal["max", "min"]
    headline: Sequence[str]  # the metrics to show where there are more than fit
    table: Callable[[], str]  # the model's layers with shapes and parameter counts
    notes: Mapping[str, Any]  # what the run should remember: class names, moments of the data, ...
    watch: Callable[[pathlib.Path], Sequence[Hook]] = lambda workdir: ()  # what is done besides, at moments of the run
    analyse: Callable[[FinishedRun], Mapping[str, Mapping[str, float]]] = lambda run: {}  # more metrics, by split
    rates: Mapping[str, Schedule | None] = {}  # learning rates to record, of how many steps were taken before
    # (state, keys [N], labels [N] or None) -> images [N, H, W, C] in [0, 1], of a model that makes images
    generate: Callable[[State, Array, Array | None], Array] | None = None
    conditions: Sequence[str] = ()  # the classes whose labels `generate` takes, by name; where empty it takes None


def compiled(config: Mapping[str, Any], experiment: Experiment, train: Train, parallel: Parallel) -> Program:
    """The program of what `prepare` returned for a config."""
    return compile_task(
        experiment.task,
        experiment.train,
        seed=config["seed"],
        log_every=train.log_every,
        steps_per_call=train.steps_per_call,
        parallel=parallel,
    )


def prepare(config: Mapping[str, Any]) -> tuple[Experiment, Train, Parallel]:
    """Builds the experiment of a checked config, and what it runs on.

    Raises:
      InputError: the config does not fit the data or the devices, or holds a key that nothing reads.
    """
    reads = Reads(config)
    train = Train(**reads["train"])
    parallel = data_parallel(rule=train.rule, parallel=train.parallel)
    parallel.check_batch(train.batch_size)  # before the data are read
    build = imported(experiment_module(reads["experiment"])).build
    experiment = bound(build, {key: reads[key] for key in reads if key not in ("train", "experiment")})(train=train)
    reads.check_all_read()
    if train.nonfinite == "skip":
        experiment = experiment._replace(task=skipping(experiment.task))
    return experiment, train, parallel
