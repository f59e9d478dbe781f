"""One step of a run once more, to see where it ceases to be finite."""

import pathlib

import jax

from experiments.commands.run import start_of
from experiments.experiment import compiled, prepare
from experiments.stored import NOTES, check_same_data, config_of, notes_of
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.errors import InputError
from jaxrec.explain.finite import first_non_finite
from jaxrec.output import records
from jaxrec.types import Whole


def replay(*, run: str, step: Whole) -> int:
    """Repeats a run up to a step, carries that step out operation by operation, and says where it first is not finite.

    The run's folder is left as it is. Up to the step all is what the run had, to the bit; within it, operations round
    as they do one by one.

    Args:
      run: its folder, finished or not.
      step: how many steps were taken before the one that is looked at, as nan_report.json says it.

    Returns:
      The exit code: 0 where the step is finite, 76 where it is not.

    Raises:
      InputError: there is no such run, its data have changed, or it ends before that step.

    Example:
      python launch.py replay --run=runs/digits_cnn --step=180
    """
    folder = pathlib.Path(run)
    config = config_of(folder, "--run")
    experiment, train, parallel = prepare(config)
    if step >= experiment.steps:
        raise InputError(f"--step={step}: that run has {experiment.steps} steps, 0 to {experiment.steps - 1}.")
    came = max((record["step"] for record in records.read(folder / "metrics.jsonl")), default=0)
    if step > came:
        raise InputError(f"--step={step}: that run has come to step {came} so far. Name one up to there.")
    if (folder / NOTES).exists():
        check_same_data(folder, notes_of(folder, "--run"), experiment.notes)
    program = compiled(config, experiment, train, parallel)
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        before = max((saved for saved in checkpoints.steps() if saved <= step), default=0)
        state = checkpoints.restore(program.template, before) if before else start_of(program, train)
    print(f"Repeating steps {before} to {step}.", flush=True)
    state, _ = program.take(state, before, step)
    key = jax.random.fold_in(jax.random.key(config["seed"]), step)
    batch = jax.jit(experiment.train.fetch)(experiment.train.resident, experiment.train.host(step))
    where = first_non_finite(experiment.task.train_step, state, batch, key)
    if where is None:
        print(f"Step {step}: every operation of it is finite.")
        return 0
    print(f"Step {step}: the first operation that is not finite is {where}.")
    return 76
