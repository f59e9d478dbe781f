"""Carries an experiment out in a folder: train, choose on validation, test once, report."""

import contextlib
import functools
import math
import pathlib
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from experiments import diverged
from experiments.experiment import Experiment, FinishedRun, Train, compiled, prepare
from experiments.settings.flags import completed
from experiments.stored import NOTES, check_same_data, notes_of, weights_of
from jaxrec.engine import hooks
from jaxrec.engine.checkpoint import Checkpoints, check_room
from jaxrec.engine.loop import UNFINISHED, Pause, fit, newest
from jaxrec.engine.program import Program, state_template
from jaxrec.errors import DivergedError, InputError, StoppedError
from jaxrec.machine import signals, startup
from jaxrec.machine.agreement import all_are_here, check_agreement
from jaxrec.output import records, report
from jaxrec.output.progress import ProgressLine
from jaxrec.output.records import Records
from jaxrec.output.workdir import owned, versions, write_environment, write_json
from jaxrec.tasks.task import State
from jaxrec.tasks.transfer import submodule_of, transfer

# What a run is, its config says; these say where and how, and may change when it goes on.
FREE = (
    *(
        f"config.train.{name}"
        for name in ("rule", "parallel", "keep", "save_seconds", "steps_per_call", "evaluate_train")
    ),
    "config.data.data_dir",
)
INTERRUPTED = "interrupted"  # where a run that is stopped between two moments leaves its state


def run(
    config: Mapping[str, Any],
    workdir: pathlib.Path,
    *,
    fresh: bool = False,
    until: int | None = None,
    finish: bool = True,
    layers: bool = True,
) -> int:
    """Trains, chooses the best checkpoint on validation, and reads the test split once.

    Args:
      config: checked and complete.
      workdir: the run's folder.
      fresh: whether to move an old run in it aside.
      until: stop after this many steps, instead of at the config's end.
      finish: whether to choose, test and report then.
      layers: whether to print the table of layers where it begins; of several runs of one network once is enough.

    Returns:
      The exit code.

    Raises:
      InputError: the config does not fit the data, the devices or the folder.
      DivergedError: a train metric or the state is not finite.
      StoppedError: a signal came; the same command goes on.
    """
    experiment, train, parallel = prepare(config)
    table = experiment.table()  # before the folder is touched: this is where a model that fits no image says so
    monitor = experiment.monitor if "validation" in experiment.splits else None
    _check(experiment, train, monitor)
    with (
        _owned(workdir, config, fresh=fresh) as (own, changed),
        Checkpoints(workdir / "checkpoints", keep=train.keep, monitor=monitor, mode=experiment.mode) as checkpoints,
        Checkpoints(workdir / INTERRUPTED) as interrupted,
    ):
        source, start = newest(checkpoints, interrupted)
        if not start and (damaged := checkpoints.damaged() or interrupted.damaged()):
            step, fault = max(damaged.items())
            raise InputError(
                f"--workdir={workdir}: no checkpoint there is as it was written; that of step {step}: {fault}. Put it "
                "back, or begin anew with --fresh."
            )
        check_agreement({"config": config, "versions": versions(), "data": experiment.notes, "checkpoint": start})
        if start and (workdir / "result.json").exists():
            return report.show(workdir, "This run is finished; --fresh starts it anew.")
        if start and (workdir / NOTES).exists():
            check_same_data(workdir, notes_of(workdir, "--workdir"), experiment.notes)
        elif start:  # an older version wrote it at the end
            warnings.warn(f"{workdir / NOTES} is missing: whether its data are the same, nobody knows.", stacklevel=1)
        # The newest, the best, those that a save takes the place of, and what a signal leaves.
        check_room(checkpoints.directory, state_template(experiment.task, experiment.train, parallel), train.keep + 3)
        contents = experiment.notes.get("contents")
        write_environment(own, startup.device_line(), step=start, changed=changed, data=contents)
        write_json(own / NOTES, experiment.notes)
        others = f" Changed: {', '.join(changed)}." if changed else ""
        if start:
            print(f"Resuming {workdir} at step {start} of {experiment.steps}.{others}")
        elif layers:
            print(table)
        program = compiled(config, experiment, train, parallel)
        first = start_of(program, train) if train.init_from and not start else None
        before = source.metrics(start) if source else {}
        speed = hooks.Speed(before)
        recorded = start - len(before.get(UNFINISHED, ()))
        history = [record for record in records.read(workdir / "metrics.jsonl") if record["step"] <= recorded]
        missing = {*range(train.log_every, recorded + 1, train.log_every)} - {record["step"] for record in history}
        if missing:
            warnings.warn(
                f"{workdir / 'metrics.jsonl'} lacks {len(missing)} of its lines, the first of step {min(missing)}: "
                "they are lost, and what follows from them, such as patience, begins anew.",
                stacklevel=1,
            )
        stopping = hooks.EarlyStopping(
            monitor, mode=experiment.mode, patience=train.patience or math.inf, history=history
        )
        with (
            _told(workdir, own, experiment, program, train, (checkpoints, interrupted)),
            signals.deferred(),
            Records(own, recorded) as record,
            ProgressLine(experiment.steps, start, first=experiment.headline) as progress,
        ):
            saving = hooks.save(checkpoints, speed)
            seldom = hooks.Seldom(
                saving,
                seconds=train.save_seconds or 0,
                monitor=monitor,
                mode=experiment.mode,
                saved=[checkpoints.metrics(step) for step in checkpoints.steps()],
                least=program.least,
            )
            evaluations = train.eval_every or experiment.train.per_pass
            periodically = hooks.every(train.save_every or evaluations, seldom)
            if train.nonfinite == "skip":
                periodically = hooks.unless_skipping(periodically)
            validation = {name: batches for name, batches in experiment.splits.items() if name == "validation"}
            state = fit(
                program,
                steps=start if stopping.exhausted else until or experiment.steps,
                state=first,
                checkpoints=checkpoints,
                pause=Pause(signals.is_asked, interrupted, [speed, hooks.save(interrupted, speed)]),
                hooks=[
                    speed,
                    hooks.record_rates(**experiment.rates),
                    hooks.every(evaluations, hooks.evaluate(**validation)),
                    *experiment.watch(own),
                    record,
                    progress,
                    hooks.stop_if_skipping(train.skip_at_most) if train.nonfinite == "skip" else hooks.stop_if_diverged,
                    stopping,
                    lambda moment: saving(moment) if stopping.exhausted else periodically(moment),
                ],
            )
            checkpoints.wait()
            interrupted.wait()
            asked = not program.least(not signals.is_asked())
        last = int(state.step)
        if asked or signals.asked():
            raise StoppedError(signals.asked() or signal.SIGTERM, last)  # another process of the job was asked
        if not finish:
            return 0
        if stopping.exhausted:
            print(f"Stopped early: {monitor} has not improved in {train.patience} evaluations.")
        best = checkpoints.best() if monitor else None
        chosen = state if best in (None, last) else checkpoints.restore(program.template, best)
        metrics = _measured(experiment, train, program, chosen, own)
        print(startup.cache_line())
        report.write(
            own,
            step=best or last,
            metrics=metrics,
            headline=experiment.headline,
            speed=speed,
            notes=experiment.notes,
        )
        shutil.rmtree(own / INTERRUPTED, ignore_errors=True)
        return report.show(own)


def _check(experiment: Experiment, train: Train, monitor: str | None) -> None:
    """Raises InputError for settings that ask for what there is not."""
    if train.patience and not monitor:
        lacks = "a validation split: set data.validation, such as 0.1" if experiment.monitor else "a metric to wait for"
        raise InputError(f"train.patience needs {lacks}.")
    for name, value in (("submodule", train.submodule), ("reinit", train.reinit)):
        if value and not train.init_from:
            raise InputError(f"train.{name} = {value!r} is for a run that train.init_from starts from: set both.")


def _measured(
    experiment: Experiment, train: Train, program: Program, chosen: State, workdir: pathlib.Path
) -> dict[str, dict[str, float]]:
    """The metrics of each split under the state that was chosen, with what the experiment finds out besides."""
    left_out = () if train.evaluate_train else ("train",)
    splits = {split: batches for split, batches in experiment.splits.items() if split not in left_out}
    metrics = {split: program.evaluate(chosen, batches) for split, batches in splits.items()}
    finished = FinishedRun(chosen, experiment.splits, functools.partial(program.evaluate, chosen), workdir)
    for split, found in experiment.analyse(finished).items():
        metrics[split] = {**metrics.get(split, {}), **found}
    return metrics


@contextlib.contextmanager
def _owned(
    workdir: pathlib.Path, config: Mapping[str, Any], *, fresh: bool
) -> Iterator[tuple[pathlib.Path, list[str]]]:
    """The folder that this process writes into, the run's own, and what changed of its config since it began.

    Where process 0 has the folder, the others get one that is thrown away. So all processes do the same, and no line
    needs to know which process it runs in. Checkpoints are written by all.
    """
    if jax.process_index() == 0:
        with owned(workdir, config, free=FREE, completed=completed, fresh=fresh) as changed:
            all_are_here("the folder is owned")
            yield workdir, changed
    else:
        with tempfile.TemporaryDirectory() as scratch:
            all_are_here("the folder is owned")
            yield pathlib.Path(scratch), []


def start_of(program: Program, train: Train) -> State:
    """The state before a run's first step, with what another run has learned where it starts from one; says so."""
    if not train.init_from:
        return program.init()
    learned, step, average = weights_of(pathlib.Path(train.init_from), "config.train.init_from")
    learned = submodule_of(learned, train.submodule) if train.submodule else learned
    state, text = transfer(program.init(), learned, reinit=train.reinit)
    taken = f"{', its moving average' if average else ''}{f', submodule {train.submodule}' if train.submodule else ''}"
    print(f"Starting from {train.init_from}, step {step}{taken}: {text}")
    return state


@contextlib.contextmanager
def _told(
    workdir: pathlib.Path,
    own: pathlib.Path,
    experiment: Experiment,
    program: Program,
    train: Train,
    kept: Sequence[Checkpoints],
) -> Iterator[None]:
    """Says of a run that diverges at which step it did."""
    try:
        yield
    except DivergedError as error:
        if train.nonfinite == "skip":  # all that was accepted is finite
            raise
        source, step = newest(*kept)
        print(f"Training diverged. Repeating it from step {step} on, to find the first bad step.", flush=True)
        state = source.restore(program.template, step) if source else start_of(program, train)
        stop = min(error.step + 1, experiment.steps)
        raise diverged.report(workdir, own, experiment, program, state, step, stop) or error from None
