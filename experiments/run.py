"""Carries an experiment out in a folder: train, choose on validation, test once, report."""

import importlib
import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.config import Reads
from experiments.experiment import Train
from jaxrec import hooks, report, startup
from jaxrec.checkpoint import Checkpoints
from jaxrec.program import compile_task
from jaxrec.progress import ProgressLine
from jaxrec.records import Records
from jaxrec.sharding import data_parallel
from jaxrec.train import fit
from jaxrec.workdir import owned, write_environment

# What a run is, its config says; these say where and how, and may change when it goes on.
FREE = (
    *(f"config.train.{name}" for name in ("rule", "parallel", "keep", "steps_per_call")),
    *("config.data.data_dir", "config.data.max_bytes"),
)


def run(
    config: Mapping[str, Any],
    workdir: pathlib.Path,
    *,
    fresh: bool = False,
    until: int | None = None,
    finish: bool = True,
) -> int:
    """Trains, chooses the best checkpoint on validation, and reads the test split once.

    Args:
      config: checked and complete.
      workdir: the run's folder.
      fresh: whether to move an old run in it aside.
      until: stop after this many steps, instead of at the config's end.
      finish: whether to choose, test and report then.

    Returns:
      The exit code.

    Raises:
      InputError: the config does not fit the data, the devices or the folder.
      DivergedError: a train metric is not finite.
    """
    reads = Reads(config)
    train = Train(**reads["train"])
    parallel = data_parallel(rule=train.rule, parallel=train.parallel)
    parallel.check_batch(train.batch_size)  # before the data are read
    build = importlib.import_module(f"experiments.{reads['experiment']}").build
    experiment = build(train=train, **{key: reads[key] for key in reads if key not in ("train", "experiment")})
    reads.check_all_read()
    table = experiment.table()  # before the folder is touched: this is where a model that fits no image says so
    validation = {name: batches for name, batches in experiment.splits.items() if name == "validation"}
    monitor = experiment.monitor if validation else None
    epoch = experiment.train.per_pass
    with (
        owned(workdir, config, free=FREE, fresh=fresh),
        Checkpoints(workdir / "checkpoints", keep=train.keep, monitor=monitor, mode=experiment.mode) as checkpoints,
    ):
        start = checkpoints.latest() or 0
        if start >= experiment.steps and (workdir / "result.json").exists():
            return report.show(workdir, "This run is finished; --fresh starts it anew.")
        write_environment(workdir, startup.device_line())
        print(table if not start else f"Resuming {workdir} at step {start} of {experiment.steps}.")
        program = compile_task(
            experiment.task,
            experiment.train,
            seed=config["seed"],
            log_every=train.log_every,
            steps_per_call=train.steps_per_call,
            parallel=parallel,
        )
        before = checkpoints.metrics(start) if start else {}
        speed = hooks.Speed(before.get("speed/examples", 0), before.get("speed/seconds", 0.0))
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
                    hooks.stop_if_diverged,
                    hooks.every(train.save_every or train.eval_every or epoch, hooks.save(checkpoints, speed)),
                ],
            )
        if not finish:
            return 0
        best = checkpoints.best() if monitor else None
        chosen = state if best in (None, steps) else checkpoints.restore(program.template, best)
        metrics = {split: program.evaluate(chosen, batches) for split, batches in experiment.splits.items()}
        print(startup.cache_line())
        report.write(workdir, step=best or steps, metrics=metrics, speed=speed, notes=experiment.notes)
        return report.show(workdir)
