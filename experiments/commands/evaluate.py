"""A run's metrics once more: on a split of its data, on other data, on corrupted images."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from experiments.classify import ONE_LABEL, SEVERAL_LABELS
from experiments.corruptions import at_strength, corruption
from experiments.evaluation import Evaluation, check_takes_results, evaluation_of
from experiments.settings.flags import literal
from experiments.settings.schema import check
from experiments.stored import notes_of, recogniser_of
from jaxrec.data import transforms
from jaxrec.errors import InputError
from jaxrec.output.charts import against_strength
from jaxrec.output.console import plain_console
from jaxrec.output.report import numbers, table_of, write_csv
from jaxrec.output.workdir import write_json
from jaxrec.types import Names


def evaluate(
    *,
    run: str,
    split: Literal["train", "validation", "test", "all"] = "test",
    data: str | None = None,
    corrupt: Names | None = None,
) -> int:
    """Prints the metrics of a run, as its own evaluation has them, and writes evaluate_<split>.json into its folder.

    Of other data, evaluate_<data>_<split>.json. With `corrupt`, corrupt_... .json, .csv and .png as well: the metrics
    without corruption and at five strengths of each. What is drawn follows from the run's seed and the example, so the
    numbers are the same each time.

    Args:
      run: the folder of a recogniser's run, finished or not: its chosen state, or its newest.
      split: of the data.
      data: other data: a folder of pictures or a CSV of them, an `.npz` file, `digits`, the name of a TFDS set, or a
        whole section, {'name': ..., ...}. Pictures get the run's own size, labels the numbers of classes of that name.
      corrupt: which corruptions, such as gaussian_noise,masking; docs/predict.md has all of them.

    Returns:
      The exit code.

    Raises:
      InputError: there is no such run, split, data or corruption, or the data are not of the run's kind.

    Example:
      python launch.py evaluate --run=runs/digits_cnn --corrupt=gaussian_noise
    """
    folder = pathlib.Path(run)
    for name in corrupt or ():
        corruption(name)
    check_takes_results(folder, "--run")
    section = _section(folder, data, split) if data else None
    found = evaluation_of(folder, "--run", section, f"--data={data}")
    if corrupt and not found.notes.get("unit_range", True):
        raise InputError("--corrupt is for images in [0, 1], and this run's are others. Leave it out.")
    where = f"{_called(section)}_{split}" if section else split
    passes = found.batches(split)
    rows = {split: numbers(found.metrics(passes))}
    about = {"step": found.step, "data": dict(section or found.config["data"]), "split": split}
    about["examples"] = passes.examples  # of a set without splits, the test split is a fifth
    write_json(folder / f"evaluate_{where}.json", {**about, "metrics": rows[split]})
    if corrupt:
        rows |= _corrupted(found, split, corrupt)
    console = plain_console(soft_wrap=True)
    headline = SEVERAL_LABELS if found.several else ONE_LABEL
    title = f"step {found.step} of {run}, {data or 'its own data'}: {passes.examples:,} examples"
    table, rest = table_of(rows, headline, title)
    console.print(table)
    if rest:
        console.print(f"{', '.join(rest)}: see {folder / f'evaluate_{where}.json'}")
    if corrupt:
        console.print(_write_corrupted(folder, where, about, rows, split, corrupt))
    return 0


def _corrupted(found: Evaluation, split: str, names: Sequence[str]) -> dict[str, Mapping[str, float | None]]:
    """The metrics at each strength, the row named by corruption and value."""
    rows = {}
    for name in names:
        row = corruption(name)
        for strength in row.strengths:
            change = transforms.corrupted([at_strength(name, strength)])
            rows[f"{name}, {row.argument} {strength:g}"] = numbers(found.metrics(found.batches(split, change)))
    return rows


def _write_corrupted(
    folder: pathlib.Path,
    where: str,
    about: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, float | None]],
    split: str,
    names: Sequence[str],
) -> str:
    """Writes the numbers and the picture; says where, and the mean accuracy of each corruption."""
    metrics = list(rows[split])
    accuracy = "ema_accuracy" if "ema_accuracy" in metrics else "accuracy"
    table, curves = [["none", "", 0, "", *rows[split].values()]], {}
    for name in dict.fromkeys(names):
        row = corruption(name)
        found = [rows[f"{name}, {row.argument} {strength:g}"] for strength in row.strengths]
        for level, (strength, values) in enumerate(zip(row.strengths, found, strict=True), 1):
            table.append([name, row.argument, level, strength, *(values[metric] for metric in metrics)])
        curves[name] = [values[accuracy] for values in (rows[split], *found)]
    file = folder / f"corrupt_{where}.csv"
    write_csv(file, ["corruption", "argument", "level", "value", *metrics], table)
    entries = [dict(zip(("corruption", "argument", "level", "value", *metrics), row, strict=True)) for row in table]
    write_json(file.with_suffix(".json"), {**about, "metrics": entries})
    against_strength(file.with_suffix(".png"), curves, accuracy, f"{folder.name}, {where}")
    means = ", ".join(f"{name} {100 * sum(values[1:]) / len(values[1:]):.2f} %" for name, values in curves.items())
    return f"Mean {accuracy} over five strengths: {means}. {file}, .json and .png"


def _called(section: Mapping[str, Any]) -> str:
    """What files are called by, of other data: the name of the set, or of its folder or file."""
    name = section.get("dataset") or pathlib.Path(section.get("path", "")).stem or section["name"]
    return re.sub(r"\W+", "_", name)


def _section(folder: pathlib.Path, text: str, split: str) -> Mapping[str, Any]:
    """The section that --data means, checked."""
    config, notes = recogniser_of(folder, "--run"), notes_of(folder, "--run")
    section, path = literal(text), pathlib.Path(text)
    if not isinstance(section, Mapping):
        if path.suffix == ".npz":
            section = {"name": "npz", "path": text}
        elif path.exists():
            section = {"name": "folder", "path": text}
        elif text.startswith((".", "/", "~")) or text.endswith(("/", ".csv")):
            raise InputError(f"--data={text}: no such folder or file.")
        else:
            section = {"name": "digits"} if text == "digits" else {"name": "tfds", "dataset": text}
        section |= {"validation": 0.0} if split == "all" else {}  # few pictures could not spare any
    if section.get("name") == "folder":
        height, width, channels = notes["shape"]
        section = {"size": (height, width), "channels": channels, "crop": notes.get("crop", 1.0), **section}
    return check({**config, "data": section})["data"]
