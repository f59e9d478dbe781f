"""What a run has left in its folder, read without touching it: the run may be going on."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from experiments.settings.flags import from_flags
from jaxrec.data import npz
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.errors import InputError, reason
from jaxrec.output.workdir import REMEDY, read_json
from jaxrec.tasks.average import averaged, learned
from jaxrec.tasks.task import AVERAGE, State
from jaxrec.types import PyTree

NOTES = "data.json"  # what a run notes of its data before the first step
POOLED = "out_of_fold"  # of a cross-validation: what every example was answered by the run that held it out


@contextlib.contextmanager
def chosen_checkpoint(folder: pathlib.Path, what: str) -> Iterator[tuple[Checkpoints, int]]:
    """Opens a run's checkpoints, and names the step that it has chosen, or its newest while it goes on.

    Args:
      folder: of the run.
      what: names the folder, as the user knows it, in what this raises.

    Raises:
      InputError: there is no run, no checkpoint yet, or none that is as it was written.
    """
    if not (folder / "checkpoints").is_dir():
        raise InputError(f"{what} = '{folder}': no run with checkpoints is there. Name a run's folder.")
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        result = result_of(folder)
        step = result["step"] if result else checkpoints.latest()
        if step is None:
            lacks = "has no checkpoint that can be used" if checkpoints.damaged() else "has saved no checkpoint yet"
            raise InputError(f"{what} = '{folder}': that run {lacks}.")
        yield checkpoints, step


def result_of(folder: pathlib.Path) -> dict[str, Any] | None:
    """What result.json holds, or None of a run that is not finished."""
    file = folder / "result.json"
    return read_json(file, keys={"step": int, "metrics": dict, "notes": dict}) if file.exists() else None


def config_of(folder: pathlib.Path, what: str) -> dict[str, Any]:
    """A run's config, complete and checked. Arguments as in `chosen_checkpoint`.

    Raises:
      InputError: it is no config of this version of the code, or names a package that `allowing` does not.
    """
    try:
        config, _, _ = from_flags([f"--config={folder / 'config.json'}"])
    except InputError as error:
        raise InputError(f"{what} = '{folder}': that run's config.json cannot be used today. {error}") from error
    return config


def recogniser_of(folder: pathlib.Path, what: str) -> dict[str, Any]:
    """The config of a recogniser's run. Arguments and errors as in `config_of`, and for a run of another kind."""
    config = config_of(folder, what)
    if config["experiment"] != "classify":
        raise InputError(f"{what} = '{folder}': a run of '{config['experiment']}'. Name a run of 'classify'.")
    return config


def notes_of(folder: pathlib.Path, what: str, *needed: str) -> dict[str, Any]:
    """What a run has noted of its data, class names, moments and so on.

    Args:
      folder, what: as in `chosen_checkpoint`.
      *needed: what has to be among it.

    Raises:
      InputError: an older version's run that is not finished, which has noted nothing yet, or something is missing.
    """
    if (folder / NOTES).exists():
        notes = read_json(folder / NOTES)
    elif result := result_of(folder):
        notes = result["notes"]
    else:
        raise InputError(
            f"{what} = '{folder}': that run has no {NOTES}, which an older version wrote when it was finished. Let the "
            "same command go on."
        )
    if missing := [name for name in needed if name not in notes]:
        raise InputError(
            f"{what} = '{folder}': what that run has noted of its data does not say {' and '.join(missing)}: an older "
            f"version's, or {NOTES} is damaged."
        )
    return notes


def check_folds(folder: pathlib.Path) -> None:
    """Raises InputError where a file that a cross-validation has left beside its runs is damaged."""
    if (folder / "folds.json").exists():
        read_json(folder / "folds.json", keys={"folds": int, "metrics": dict})
    file = folder / f"{POOLED}.npz"
    try:
        with npz.opened(file) as arrays:
            if damaged := arrays.zip.testzip():  # reads all, and keeps nothing of it
                raise ValueError(f"{damaged} is not as it was written")
    except FileNotFoundError:  # of what is no recogniser, or not finished, or no cross-validation
        pass
    except npz.UNREADABLE as error:
        raise InputError(f"{file}: cannot be read ({reason(error)}). {REMEDY}") from None


def check_same_data(folder: pathlib.Path, noted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raises InputError where a run's data are others than those that it has noted.

    Args:
      folder: of the run, for the message.
      noted: what the run has noted; of an older version's run it may lack something.
      found: what would be noted of the data today.
    """
    both = noted.keys() & found.keys()
    before, now = (notes["contents"] if "contents" in both else {} for notes in (noted, found))
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    changed = [f"{key} {before.get(key, 'none')} -> {now.get(key, 'none')}" for key in keys]
    changed += [key for key in ("classes", "splits", "shape") if key in both and list(noted[key]) != list(found[key])]
    for key in sorted({"mean", "std"} & both):
        if len(noted[key]) != len(found[key]) or not np.allclose(noted[key], found[key], rtol=1e-5):
            changed.append(key)
    if changed:
        raise InputError(
            f"{folder}: the data of this run have changed since it began ({', '.join(changed)}): what it has learned "
            "from and what it is measured on would mix. Put them back, or begin the run anew with --fresh."
        )


def state_of(folder: pathlib.Path, what: str) -> tuple[State, int]:
    """What a run has learned, without its optimizer's state, and the step. Arguments as in `chosen_checkpoint`."""
    with chosen_checkpoint(folder, what) as (checkpoints, step):
        stored = checkpoints.read(step)
    extra = dict(stored.get("extra") or {})  # nothing is stored of a dictionary that is empty
    if AVERAGE in extra:
        extra[AVERAGE] = {"params": {}, "extra": {}, **extra[AVERAGE]}
    return State(stored["step"], stored["params"], (), extra), step


def weights_of(folder: pathlib.Path, what: str) -> tuple[PyTree, int, bool]:
    """What a run has learned, {"params": ..., "extra": ...}, its step, and whether it is a moving average.

    Where a run keeps a moving average, that is what was measured and chosen. Arguments and errors as in
    `chosen_checkpoint`.
    """
    state, step = state_of(folder, what)
    return learned(averaged(state)), step, AVERAGE in state.extra
