"""Searches a space of configs: trials are runs, validation chooses, and the test split is read for the winner alone."""

import contextlib
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.commands.run import run
from experiments.experiment import prepare
from experiments.settings.schema import check
from experiments.settings.space import Space, assigned, points
from experiments.study import (
    SAME,
    WHY,
    FrozenTrial,
    Study,
    Trial,
    draw,
    end,
    give_up,
    goes_on,
    locked,
    open_study,
    rungs,
    work,
)
from jaxrec.engine.checkpoint import score
from jaxrec.errors import DivergedError, InputError
from jaxrec.machine.startup import cache_line
from jaxrec.output.records import read
from jaxrec.output.report import write_csv
from jaxrec.output.workdir import read_json, write_json
from jaxrec.types import Assignments, Count

TRIALS = 20  # where nobody says
SHOWN = 10  # trials in the table
RIVALS = 3  # trials that are repeated under other seeds
STATES = {"COMPLETE": "came to their end", "PRUNED": "ended early", "FAIL": "were refused"}


class Goal(NamedTuple):
    """What trials are compared by: the best value of a metric of validation, which is also what a run chooses by."""

    metric: str
    mode: Literal["max", "min"]

    def reached(self, folder: pathlib.Path) -> float:
        """The best value that a run has recorded; NaN where none is finite."""
        values = [record.get(self.metric) for record in read(folder / "metrics.jsonl")]
        found = [value for value in values if value is not None]
        return max(found, key=lambda value: score(value, self.mode), default=math.nan)


def sweep(
    config: Mapping[str, Any],
    workdir: pathlib.Path,
    *,
    space: Assignments,
    trials: Count | None = None,
    method: Literal["grid", "random", "tpe", "gp"] = "tpe",
    pruner: Literal["none", "asha", "hyperband"] = "none",
    top: Count = 1,
    seeds: Count = 1,
) -> int:
    """Carries trials out, each a run in workdir/trials/<number>, and says which config is best on validation.

    The same command goes on where it was stopped or killed, and several processes may work on one folder. Writes
    best.json, the winner's config; trials.csv; and pictures: the values in their order (history.png), over what was
    picked (parallel.png), and how much each choice matters (importance.png).

    Args:
      config: of a run, checked and complete; where the space says nothing, all trials have its values.
      workdir: the search's folder.
      space: what to choose from, such as "log 1e-4 1e-1", "float 0 0.5", "int 1 5" or 0.1,0.2,0.3; docs/sweep.md.
      trials: how many; 20 by default, of a grid all of its points.
      method: how the next trial is chosen: all combinations, at random, by a tree of Parzen estimators, or by a
        Gaussian process.
      pruner: what ends a trial early, after 1/9 or 1/3 of its steps, where others were better by then: nothing,
        asynchronous successive halving, or Hyperband.
      top: the test split is read for so many of the best.
      seeds: the winner is repeated under so many seeds, the config's own among them, and so are its two rivals, on
        validation alone.

    Returns:
      The exit code.

    Raises:
      InputError: there is no metric to choose by, the folder holds another search, or no trial came to its end.
      StoppedError: a signal came; the same command goes on.

    Example:
      python launch.py sweep --config=configs/digits_cnn.py --space.model.dropout="float 0 0.5" --trials=10
    """
    if method == "grid" and trials:
        raise InputError("--trials is for other methods than grid, which goes through all points: leave one out.")
    experiment, _, _ = prepare(config)
    if not experiment.monitor or "validation" not in experiment.splits:
        raise InputError("A search needs a metric of validation to choose by: set data.validation, such as 0.1.")
    goal = Goal(experiment.monitor, experiment.mode)
    all_points = list(points(space)) if method == "grid" else None
    _own(workdir, config, space, method, pruner)
    study = open_study(workdir, mode=goal.mode, method=method, pruner=pruner, seed=config["seed"])
    console = Console(highlight=False, markup=False, soft_wrap=True)
    work(
        study,
        len(all_points) if all_points else trials or TRIALS,
        lambda pick: assigned(config, space, pick),
        all_points,
        lambda trial, pick: console.print(
            _carry_out(study, trial, check(assigned(config, space, pick)), goal, pruned=pruner != "none")
        ),
    )
    with locked(workdir / "finishing"):  # what follows, one process does, and others find done
        _finish(study, goal, top, seeds, console)
    return 0


def _own(workdir: pathlib.Path, config: Mapping[str, Any], space: Space, method: str, pruner: str) -> None:
    """Makes a folder that of this search.

    Raises:
      InputError: it is that of another one, or of a run.
    """
    if (workdir / "config.json").exists():
        raise InputError(f"--workdir={workdir} holds a run. Name another folder for a search.")
    workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = {"config": config, "space": space.told, "method": method, "pruner": pruner}
    wanted = json.loads(json.dumps(wanted))
    with locked(workdir / "lock"):
        file = workdir / "sweep.json"
        found = read_json(file) if file.exists() else wanted
        if changed := [key for key, value in wanted.items() if found.get(key) != value]:
            raise InputError(
                f"--workdir={workdir} holds a search of another {', '.join(changed)}. Name another folder, or give the "
                f"command that began it; {file} has it."
            )
        write_json(file, wanted)


def _carry_out(study: Study, trial: Trial, config: Mapping[str, Any], goal: Goal, *, pruned: bool) -> str:
    """Carries out the run of a trial, or so much of it as it is worth, and says in a line what came of it."""
    folder = study.trial_folder(trial.number)
    try:
        steps = _stops(config) if pruned else {None: None}
        for resource, until in steps.items():
            _run(config, folder, until=until)
            value = goal.reached(folder)
            if resource and not goes_on(study, trial, resource, value):
                return f"{_called(trial)} ended early at step {until}, {goal.metric} {value:.4f}"
    except DivergedError as error:
        give_up(study, trial, str(error), diverged=True)
        return f"{_called(trial)} diverged: {error}"
    except InputError as error:
        give_up(study, trial, str(error), diverged=False)
        return f"{_called(trial)} is refused: {error}"
    if not end(study, trial, value):
        return f"{_called(trial)} has measured no {goal.metric}"
    best = study.ranked()[0]
    return f"{_called(trial)}: {goal.metric} {value:.4f}; best so far {best.value:.4f}, trial {best.number}"


def _stops(config: Mapping[str, Any]) -> dict[int, int]:
    """After which steps a trial is judged: at moments at which its run measures validation anyhow."""
    experiment, train, _ = prepare(config)
    every = train.eval_every or experiment.train.per_pass
    return rungs(experiment.steps, math.ceil(every / train.log_every) * train.log_every)


def _run(config: Mapping[str, Any], folder: pathlib.Path, *, until: int | None = None, finish: bool = False) -> None:
    """Lets a run go on; what it says goes to a file in its folder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "output.txt").open("a") as output, contextlib.redirect_stdout(output):
        run(config, folder, until=until, finish=finish)


def _finish(study: Study, goal: Goal, top: int, seeds: int, console: Console) -> None:
    """Names the winner, reads its test split, repeats it, and writes down what was found."""
    ranked = study.ranked()
    if not ranked:
        raise InputError(f"{study.folder}: no trial came to its end; {study.folder}/trials has what they said.")
    configs = [read_json(study.trial_folder(trial.number) / "config.json") for trial in ranked[: max(top, RIVALS)]]
    write_json(study.folder / "best.json", configs[0])
    _write_trials(study, goal)
    console.print(_table(study, goal, ranked))
    if seeds > 1:
        _repeat(study, goal, ranked[:RIVALS], configs, seeds, console)
    for trial, config in list(zip(ranked, configs, strict=False))[:top]:
        folder = study.trial_folder(trial.number)
        _run(config, folder, finish=True)
        result = read_json(folder / "result.json", keys={"metrics": dict, "headline": list})
        test = result["metrics"].get("test", {})
        told = ", ".join(f"{name} {test[name]:.4f}" for name in result["headline"] if test.get(name) is not None)
        console.print(f"Trial {trial.number} on test: {told or 'there is none'}. The run: {folder}")
    pictures = ", ".join(file.name for file in draw(study, goal.metric))
    console.print(
        f"Written to {study.folder}: best.json, which --config= takes, trials.csv, {pictures}\n{cache_line()}"
    )


def _repeat(
    study: Study,
    goal: Goal,
    rivals: Sequence[FrozenTrial],
    configs: Sequence[Mapping[str, Any]],
    seeds: int,
    console: Console,
) -> None:
    """Repeats the best trials under other seeds, on validation, and says whether the winner is still the best."""
    found = {}
    for trial, config in zip(rivals, configs, strict=False):
        own = config["seed"]
        values = [trial.value]
        for seed in range(own + 1, own + seeds):
            folder = study.folder / "seeds" / f"trial_{trial.number:04d}" / f"seed_{seed}"
            _run({**config, "seed": seed}, folder)
            values.append(goal.reached(folder))
        found[trial.number] = {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)), "values": values}
    write_json(study.folder / "seeds.json", {"metric": goal.metric, "seeds": seeds, "trials": found})
    best = max(found, key=lambda number: score(found[number]["mean"], goal.mode))
    for number, of in found.items():
        console.print(f"Trial {number}, {seeds} seeds: {goal.metric} {of['mean']:.4f} ± {of['std']:.4f}")
    still = "is still the best" if best == rivals[0].number else f"is not the best any more, trial {best} is"
    console.print(f"Over seeds, trial {rivals[0].number} {still}.")


def _write_trials(study: Study, goal: Goal) -> None:
    """Writes the table of all trials."""
    trials = study.optuna.get_trials(deepcopy=False)
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    rows = [
        [
            trial.number,
            STATES[trial.state.name],
            trial.value,
            *(trial.params.get(name) for name in names),
            trial.user_attrs.get(WHY, ""),
            trial.user_attrs.get(SAME, ""),
        ]
        for trial in trials
    ]
    write_csv(study.folder / "trials.csv", ["trial", "state", goal.metric, *names, WHY, SAME], rows)


def _table(study: Study, goal: Goal, ranked: Sequence[FrozenTrial]) -> Table:
    """The best trials."""
    trials = study.optuna.get_trials(deepcopy=False)
    counts = [f"{sum(trial.state.name == state for trial in trials)} {said}" for state, said in STATES.items()]
    table = Table("trial", goal.metric, "what it picked", title=", ".join(counts), title_justify="left")
    for trial in ranked[:SHOWN]:
        table.add_row(str(trial.number), f"{trial.value:.4f}", _picked(trial))
    return table


def _called(trial: Trial) -> str:
    return f"trial {trial.number} ({_picked(trial)})"


def _picked(trial: Trial | FrozenTrial) -> str:
    values = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in trial.params.items()}
    return ", ".join(f"{name} {value}" for name, value in values.items())
