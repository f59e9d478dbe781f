"""What the folders of runs say for a page: what was asked, what came out, how they went, on which machine."""

import csv
import math
import pathlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.commands.runs import Run, age, look
from experiments.diverged import REPORT
from experiments.settings.flags import from_flags
from experiments.sides import Side, check_one_config, folders_of, folds_of, missing_folds
from experiments.stored import check_folds, config_of, notes_of, result_of
from jaxrec.errors import InputError
from jaxrec.output.records import read
from jaxrec.output.workdir import REMEDY, read_json
from jaxrec.trees import differences, found_at

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"  # the house's own, which it can run without being asked to
BAD_TENSORS = 5  # that a diverged run is told by


class Subject(NamedTuple):
    """What a page is about: a run, the same config under several seeds, or a cross-validation.

    Attributes:
      side: name, folders, config, notes and results. Of a run that is not finished its newest records are its result.
      runs: state, step and age of each.
      records: of each, as metrics.jsonl holds them.
      environments: versions, devices and command of each process that worked on the first of them.
      changed: what its config has that the file it names has not: (key, value there, value of the run).
      missing: lines that say what is not there, and why.
    """

    side: Side
    runs: Sequence[Run]
    records: Sequence[Sequence[Mapping[str, Any]]]
    environments: Sequence[Mapping[str, Any]]
    changed: Sequence[tuple[str, Any, Any]]
    missing: Sequence[str]

    @property
    def split(self) -> str:
        """That is looked at: test of a run that was measured on it, else validation."""
        found = [result["metrics"] for result in self.side.results]
        return "test" if found and all("test" in metrics for metrics in found) else "validation"

    @property
    def finished(self) -> bool:
        """Whether all of its runs are."""
        return all(run.state == "finished" for run in self.runs)

    @property
    def command(self) -> str:
        """The command line that has begun it, or "" where nobody has noted it."""
        words = self.environments[0].get("command") if self.environments else None
        return shlex.join(["python", *map(str, words)]) if isinstance(words, list) else ""

    @property
    def again(self) -> str:
        """A command line that carries the same config out in another folder, of several runs all of them."""
        folder, first = pathlib.Path(self.side.name), self.side.folders[0]
        folder = folder if folder.name not in ("", "..") else folder.resolve()
        words = ["python", "launch.py", f"--config={first / 'config.json'}"]
        if self.side.folds:
            words[2:2] = ["cross_validate"]
            words += ["--config.fold.of=1", f"--folds={folds_of(self.side.config)}"]  # it sets the fold of each
        elif self.side.seeds:
            words.append(f"--seeds={len(self.side.folders)}")
        return shlex.join([*words, f"--workdir={folder.with_name(f'{folder.name}_again')}"])


def gather(name: str) -> Subject:
    """Reads a run's folder, or that of several that `--seeds` or `cross_validate` has made; they may be going on.

    Raises:
      InputError: neither is there, a file of theirs is damaged, or they are not of one config.
    """
    folders = folders_of(name)
    check_folds(pathlib.Path(name))
    missing: list[str] = []
    try:
        configs = [config_of(folder, "RUN") for folder in folders]
    except InputError as error:
        configs = [read_json(folder / "config.json") for folder in folders]
        missing.append(f"{error} So its network cannot be asked.")
    config = configs[0]
    check_one_config(name, folders, configs)
    if lacking := missing_folds(name, folders, configs):
        missing.append(f"{name}: not all of its folds are there, it lacks {lacking}.")
    try:
        notes = notes_of(folders[0], "RUN")
    except InputError as error:
        notes = {}
        missing.append(str(error))
    runs = [look(folder) for folder in folders]
    records = list(map(_records, folders))
    results = [result_of(each) or _newest(lines) for each, lines in zip(folders, records, strict=True)]
    missing += [line for run in runs for line in _unfinished(run)]
    file = folders[0] / "environment.json"
    environments = [each for each in read_json(file, list) if isinstance(each, dict)] if file.exists() else []
    if not environments:
        missing.append(f"{file} is not there: nobody knows on which machine and by which versions it ran.")
    subject = Subject(Side(name, folders, config, notes, results), runs, records, environments, (), missing)
    return subject._replace(changed=list(_changed(subject)))


def flat(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(key with dots, value) of each plain value."""
    if isinstance(config, Mapping) and config:
        for key, value in config.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, config


def is_number(value: Any) -> bool:
    """Whether a value of a record is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def table(file: pathlib.Path) -> list[list[str]]:
    """The rows of a CSV that a run has left, its head first; none where there is no such file."""
    if not file.exists():
        return []
    with file.open(newline="") as opened:
        return list(csv.reader(opened))


def _records(folder: pathlib.Path) -> list[dict[str, Any]]:
    """What metrics.jsonl holds of a run.

    Raises:
      InputError: a line is no record; or there is none, and a state that was saved or measured after one.
    """
    file = folder / "metrics.jsonl"
    records = list(read(file))
    if file.exists() and not records and (result_of(folder) or any(folder.glob("checkpoints/[0-9]*"))):
        raise InputError(f"{file}: holds no record, and this run has taken steps. {REMEDY}")
    return records


def _newest(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a result would hold, of a run without one: the newest number of each metric."""
    metrics: dict[str, dict[str, Any]] = {}
    for record in records:
        for name, value in record.items():
            split, slash, metric = name.partition("/")
            if slash and is_number(value):
                metrics.setdefault(split, {})[metric] = value
    return {"step": records[-1]["step"] if records else 0, "metrics": metrics}


def _unfinished(run: Run) -> Iterator[str]:
    """Lines about a run that has no result."""
    if run.state == "finished":
        return
    recorded = f"step {run.step:,}, recorded {age(run.seconds)} ago" if run.step else "nothing is recorded yet"
    state = {
        "running": "is going on",
        "stopped": "was stopped, and the same command goes on with it",
        "trained": "came to its last step, and the same command measures it",
        "diverged": "diverged",
    }
    yield (
        f"{run.folder} {state[run.state]}: {recorded}. Its numbers are the newest that are recorded, "
        "and it is not measured on test."
    )
    if run.state == "diverged":
        found = read_json(run.folder / REPORT)
        bad = [name for name, row in (found.get("tensors") or {}).items() if row.get("nan") or row.get("inf")]
        named = ", ".join(bad[:BAD_TENSORS]) + f" and {len(bad) - BAD_TENSORS} more" * (len(bad) > BAD_TENSORS)
        yield f"{run.folder}: step {found.get('step')} is the first that is not finite ({named or 'its metrics'})."


def _changed(subject: Subject) -> Iterator[tuple[str, Any, Any]]:
    """What differs from the config file that the command line names, or else what the command line sets.

    A config file is a program, and a folder may be anybody's: those of this repository alone are read.
    """
    words = [word for word in (subject.environments or [{}])[0].get("command") or () if isinstance(word, str)]
    named = next((word.partition("=")[2] for word in words if re.match(r"--?config=", word)), "")
    file = CONFIGS / pathlib.Path(named).name
    ours = pathlib.Path(named) == pathlib.Path("configs", file.name) or pathlib.Path(named).resolve() == file
    if ours and file.suffix == ".py" and file.exists():
        defaults, _, _ = from_flags([f"--config={file}"])
        apart = "fold" if subject.side.folds else "seed" if subject.side.seeds else ""
        config = _plain(subject.side.config)
        for key, old, new in differences(_plain(defaults), config):
            if key.partition(".")[0] != apart and found_at(config, key):  # a network of another name lacks others
                yield key, old, new
        return
    for word in words:
        if found := re.match(r"--?config\.([^=]+)=(.*)", word, re.DOTALL):
            yield found[1], None, found[2]


def _plain(value: Any) -> Any:
    """A config as JSON gives it back."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
