"""Carries an experiment out in a folder: train, choose on validation, test once, report."""

import importlib
import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.config import Reads
from experiments.experiment import Train
from jaxrec import hooks, report, startup
from jaxrec.allocator import keep_freed_memory
from jaxrec.checkpoint import Checkpoints
from jaxrec.progress import ProgressLine
from jaxrec.records import Records
from jaxrec.sharding import data_parallel
from jaxrec.train import compile_task, fit
from jaxrec.workdir import owned, write_environment


def run(config: Mapping[str, Any], workdir: pathlib.Path, *, fresh: bool = False, until: int | None = None) -> int:
    """Trains, chooses the best checkpoint on validation, and reads the test split once.

    Args:
      config: checked and complete.
      workdir: the run's folder.
      fresh: whether to move an old run in it aside.
      until: stop after this many steps and leave the run unfinished.
    """
    reads = Reads(config)
    train = Train(**reads["train"])
    parallel = data_parallel(rule=train.rule, parallel=train.parallel)
    parallel.check_batch(train.batch_size)  # before the data are read
    build = importlib.import_module(f"experiments.{reads['experiment']}").build
    experiment = build(train=train, **{key: reads[key] for key in reads if key not in ("train", "experiment")})
    reads.check_all_read()
    table = experiment.table()  # before the folder is touched: this is where a model that fits no image says so
    validation = {name: batches for name, batches in experiment.passes.items() if name == "validation"}
    monitor = experiment.monitor if validation else None
    epoch = experiment.train.passes
    with (
        owned(workdir, config, fresh=fresh),
        Checkpoints(workdir / "checkpoints", keep=train.keep, monitor=monitor, mode=experiment.mode) as checkpoints,
    ):
        write_environment(workdir, startup.device_line())
        start = checkpoints.latest() or 0
        if start >= experiment.steps and (workdir / "result.json").exists():
            return report.show(workdir, "This run is finished; --fresh starts it anew.")
        print(table if not start else f"Resuming {workdir} at step {start} of {experiment.steps}.")
        program = compile_task(
            experiment.task, experiment.train, seed=config["seed"], log_every=train.log_every, parallel=parallel
        )
        if startup.on_cpu() and (note := keep_freed_memory(program.temporary_bytes, train.keep_memory)):
            print(note)
        speed = report.Speed()
        with Records(workdir, start) as record, ProgressLine(experiment.steps, start) as progress:
            steps = until or experiment.steps
            state = fit(
                program,
                steps=steps,
                checkpoints=checkpoints,
                hooks=[
                    speed,
                    hooks.every(train.eval_every or epoch, hooks.evaluate(**validation)),
                    record,
                    progress,
                    hooks.every(train.save_every or train.eval_every or epoch, hooks.save(checkpoints)),
                ],
            )
        if until:
            return 0
        best = checkpoints.best() if monitor else None
        chosen = state if best in (None, steps) else checkpoints.restore(program.template, best)
        metrics = {split: program.evaluate(chosen, batches) for split, batches in experiment.passes.items()}
        report.write(workdir, step=best or steps, metrics=metrics, speed=speed, notes=experiment.notes)
        return report.show(workdir)
