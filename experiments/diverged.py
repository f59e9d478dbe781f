"""What is told of a run that diverged: nan_report.json, and a line."""

import pathlib
from typing import Any

import numpy as np
from jax.experimental import multihost_utils

from experiments.experiment import Experiment
from jaxrec import metrics
from jaxrec.engine.divergence import BadStep, first_bad_step, tensors
from jaxrec.engine.program import Program
from jaxrec.errors import DivergedError
from jaxrec.output.workdir import write_json
from jaxrec.tasks.task import State

REPORT = "nan_report.json"
NAMED = 3  # tensors and examples that the line names


def report(
    run: pathlib.Path,
    own: pathlib.Path,
    experiment: Experiment,
    program: Program,
    state: State,
    step: int,
    stop: int,
) -> DivergedError | None:
    """Takes the steps since the newest checkpoint again, and writes down the first that is not finite.

    Args:
      run: the run's folder, which the line names.
      own: what this process writes into, where nan_report.json goes: the step, its metrics, the ids of its examples,
        and of each tensor of the state norms before and after it, with how many NaN and Inf it has then.
      experiment: whose step it is.
      program: of the run.
      state: of the newest checkpoint, or the run's first; used up.
      step: that it has taken.
      stop: the step up to which to look.

    Returns:
      The error that says so, in a line; None where all steps are finite.
    """
    bad = first_bad_step(program, state, step, stop)
    if bad is None:
        return None
    found = {name: value for name, value in metrics.compute([bad.found]).items() if isinstance(value, float)}
    after = tensors(bad)
    ids = multihost_utils.process_allgather(experiment.train.host(bad.step)["id"], tiled=True).tolist()
    write_json(
        own / REPORT,
        {
            "step": bad.step,
            "checkpoint": step,
            "metrics": {name: _number(value) for name, value in found.items()},
            "examples": ids,
            "tensors": {path: {name: _number(value) for name, value in row.items()} for path, row in after.items()},
        },
    )
    return DivergedError(
        f"training diverged: step {bad.step} is the first that is not finite ({_which(bad, found, after)}). "
        f"{run / REPORT} has norms and examples; `launch.py replay --run={run} --step={bad.step}` says where "
        f"it begins. {f'The checkpoint of step {step} is kept' if step else 'There was no checkpoint yet'}. "
        "Lower the learning rate, or clip gradients."
    )


def _which(bad: BadStep, found: dict[str, float], after: dict[str, dict[str, float]]) -> str:
    """What is not finite, the first few."""
    names = [f"{name} {value}" for name, value in found.items() if not np.isfinite(value)]
    names += [path for path, row in after.items() if row["nan"] or row["inf"]]
    return ", ".join(names[:NAMED]) + f" and {len(names) - NAMED} more" * (len(names) > NAMED)


def _number(value: Any) -> Any:
    """A number as JSON has one: NaN and Inf are words."""
    return value if np.isfinite(value) else str(value)
