"""The page: what is shown, put into its template."""

import base64
import functools
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import vl_convert

from experiments.comparison import FLOOR, cell, differing_in_words, in_order
from experiments.report.answers import Confusion, Seen
from experiments.report.charts import Curves
from experiments.report.gather import Subject, flat
from experiments.significance import FEWEST, LEVEL, metrics_of
from jaxrec.output.progress import text_of

HERE = pathlib.Path(__file__).parent
MOST_CLASSES = 30  # of a confusion that is a matrix; of more the cells that are mistakes are listed
MOST_CELLS = 40  # of that list
HEADLINE = 3  # metrics of the first line
SPLITS = ("test", "validation", "train")  # in the order of their tables
OPEN = 8  # charts that are seen at once


class Page(NamedTuple):
    """What a page shows.

    Attributes:
      subjects: runs, or several under seeds.
      curves: of all of them.
      seen: of each what its network says.
      verdicts: lines on each two of them.
      unjudged: why there are none, or "".
    """

    subjects: Sequence[Subject]
    curves: Curves
    seen: Sequence[Seen]
    verdicts: Sequence[str]
    unjudged: str


class Table(NamedTuple):
    """A table of texts."""

    caption: str
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


def rendered(page: Page) -> str:
    """The HTML of a page. Whatever comes out of a run's folder is text there: names, keys, values."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["rounded"] = _rounded
    scripts = [_library(), (HERE / "page.js").read_text()]
    several = len(page.subjects) > 1
    return environment.get_template("page.html.jinja").render(
        page=page,
        several=several,
        title=" against ".join(subject.side.name for subject in page.subjects),
        lead="" if several else _lead(page.subjects[0]),
        tables=[table for table in _tables(page.subjects) if table.rows],
        differing=differing_in_words([subject.side for subject in page.subjects]) if several else {},
        level=f"{LEVEL:.0%}",
        fewest=FEWEST,
        open=OPEN,
        charts=list(page.curves.charts.values()),
        pictures=[_pictures(seen.confusion) for seen in page.seen],
        matrix=_is_matrix,
        worst_cells=_worst_cells,
        flat=flat,
        style=(HERE / "page.css").read_text(),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
    )


def _rounded(text: str) -> str:
    """A number of a CSV as tables show it; whole ones and any other text as they are."""
    try:
        return text if text.isdigit() else text_of(float(text))
    except ValueError:
        return text


@functools.cache
def _library() -> str:
    """What draws the charts."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _tables(subjects: Sequence[Subject]) -> list[Table]:
    return _side_by_side(subjects) if len(subjects) > 1 else [_alone(subjects[0])]


def _lead(subject: Subject) -> str:
    """The state of a run, and what its headline says of the split that is looked at."""
    found = metrics_of(subject.side, subject.split)
    named = [
        name
        for name in subject.side.results[0].get("headline") or found
        if name in found and not name.startswith(FLOOR)
    ]
    named = named[:HEADLINE]
    states = dict.fromkeys(run.state for run in subject.runs)
    said = ", ".join(f"{name.replace('_', ' ')} {_briefly(found[name])}" for name in named)
    return f"{', '.join(states).capitalize()}." + (f" {subject.split.capitalize()}: {said}." if said else "")


def _briefly(of: Mapping[str, Any]) -> str:
    """A metric in a sentence."""
    if of["mean"] is None:
        return "not finite"
    return f"{of['mean']:.4g}" + ("" if of["std"] is None else f" ± {of['std']:.2g} (n = {of['n']})")


def _alone(subject: Subject) -> Table:
    """The metrics of a subject: a column for each split."""
    splits = list(dict.fromkeys(split for result in subject.side.results for split in result["metrics"]))
    found = {split: metrics_of(subject.side, split) for split in splits}
    names = in_order(dict.fromkeys(name for metrics in found.values() for name in metrics), subject.side)
    rows = [(_label(name), [cell(found[split].get(name)) for split in splits]) for name in names]
    return Table("", splits, rows)


def _side_by_side(subjects: Sequence[Subject]) -> list[Table]:
    """The metrics of subjects: a table for each split, in it a column for each subject."""
    tables = []
    every = [split for subject in subjects for result in subject.side.results for split in result["metrics"]]
    for split in sorted(dict.fromkeys(every), key=_place):
        found = [metrics_of(subject.side, split) for subject in subjects]
        names = in_order(dict.fromkeys(name for metrics in found for name in metrics), subjects[0].side)
        rows = [(_label(name), [cell(metrics.get(name)) for metrics in found]) for name in names]
        tables.append(Table(split, list(map(_head, subjects)), rows))
    return tables


def _place(split: str) -> int:
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)


def _head(subject: Subject) -> str:
    return subject.side.name + (f", n = {len(subject.runs)}" if len(subject.runs) > 1 else "")


def _label(name: str) -> str:
    return f"floor: {name}" if name.startswith(FLOOR) else name


def _is_matrix(confusion: Confusion) -> bool:
    return len(confusion.classes) <= MOST_CLASSES


def _worst_cells(confusion: Confusion) -> list:
    """The most frequent mistakes."""
    wrong = [each for each in confusion.cells if each.true != each.answer]
    return sorted(wrong, key=lambda each: -each.count)[:MOST_CELLS]


def _pictures(confusion: Confusion | None) -> Mapping[str, Any]:
    """What page.js opens: the examples of each cell."""
    if confusion is None:
        return {}
    cells = {f"{each.true},{each.answer}": [[*one] for one in each.shown] for each in confusion.cells}
    return {"pictures": confusion.pictures, "cells": cells, "classes": list(confusion.classes)}


def _hash(script: str) -> str:
    """By which a browser knows a script that the page may run; it runs no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
