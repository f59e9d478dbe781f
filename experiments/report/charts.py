"""Curves over steps, as Vega-Lite charts that can be zoomed, asked and switched."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
import numpy as np

from experiments.comparison import in_order
from experiments.report.gather import Subject, is_number

POINTS = 8_000  # of all curves together: more would take seconds to draw
MOST, FEWEST = 250, 40  # of a curve
FEW = 30  # points of a curve that are drawn as such
COLOURS = 8  # --line-0, ... of page.css
# One for each colour. A later curve lies above and has wider gaps: in them an equal one below it shows.
DASHES = ([], [8, 6], [10, 5, 2, 5], [4, 5], [6, 5, 2, 5, 2, 5], [2, 4], [8, 16], [1, 4])
WIDTHS = (1.4, 2.8, 0.8, 4)  # pixels, of parts where colour and dash are the run's
WIDTH, NARROW = 1.8, 1.3  # where they are the part's; and where many seeds are drawn
HEIGHT = 220  # pixels


class Switch(NamedTuple):
    """A word of the legend, which switches its curves.

    Attributes:
      key: in the field `run` or `part` of the rows of a chart.
      label: for people.
      colour: the number of its colour, or None where it has none.
      dash: of its curves, for an SVG.
      width: of its curves, in pixels.
    """

    key: str
    label: str
    colour: int | None
    dash: str
    width: float


class Curves(NamedTuple):
    """Charts and the legend that they share.

    Attributes:
      charts: metric -> Vega-Lite specification.
      switches: of runs, where there are several, and of parts: train, validation, ...
      last: the last step that is recorded.
      thinned: whether not each recorded point is drawn.
    """

    charts: Mapping[str, Mapping[str, Any]]
    switches: Sequence[Switch]
    last: int
    thinned: bool


def curves(subjects: Sequence[Subject]) -> Curves:
    """A chart for each metric that is recorded, the train loss and the headline first.

    A curve's colour and dash are its run's where there are several, its width the split's; of one run colour and dash
    are the split's.
    What is measured on averaged weights, "ema_accuracy", is a curve of its own in the chart of "accuracy". What is
    recorded at one step alone has no curve.
    """
    found: dict[str, list[tuple[int, str, int, list[tuple[int, float]]]]] = {}  # metric -> (run, part, seed, points)
    for run, subject in enumerate(subjects):
        for seed, records in enumerate(subject.records):
            names = dict.fromkeys(name for record in records for name in record if name != "step")
            for name in names:
                points = [(record["step"], record[name]) for record in records if is_number(record.get(name))]
                split, _, metric = name.partition("/")
                part = f"{split}, average" if metric.startswith("ema_") else split
                if points:
                    found.setdefault(metric.removeprefix("ema_"), []).append((run, part, seed, points))
    found = {metric: curve for metric, curve in found.items() if any(len(points) > 1 for *_, points in curve)}
    lines = sum(map(len, found.values()))
    most = min(max(POINTS // max(lines, 1), FEWEST), MOST)
    parts = list(dict.fromkeys(part for curve in found.values() for _, part, _, _ in curve))
    several = len(subjects) > 1
    if several:
        switches = [_switch(f"run {run}", subject.side.name, run) for run, subject in enumerate(subjects)]
        switches += [Switch(part, part, None, "", _width(place)) for place, part in enumerate(parts)]
    else:
        switches = [_switch(part, part, place) for place, part in enumerate(parts)]
    charts = {
        metric: _chart(metric, found[metric], [subject.side.name for subject in subjects], parts, most)
        for metric in _first(found, subjects[0])
    }
    every = [points for curve in found.values() for *_, points in curve]
    last = max((points[-1][0] for points in every), default=0)
    return Curves(charts, switches, last, any(len(points) > most for points in every))


def _switch(key: str, label: str, place: int) -> Switch:
    """Of what has a colour and a dash."""
    return Switch(key, label, place % COLOURS, " ".join(map(str, _dash(place))), WIDTH)


def _dash(place: int) -> Sequence[int]:
    return DASHES[(place + place // COLOURS) % len(DASHES)]  # else the ninth would look as the first does


def _width(place: int) -> float:
    return WIDTHS[place % len(WIDTHS)]


def _first(found: Sequence[str], subject: Subject) -> list[str]:
    """Names of charts in their order."""
    first = ["loss"] if "loss" in found else []
    return list(dict.fromkeys([*first, *in_order(found, subject.side)]))


def _chart(
    metric: str,
    found: Sequence[tuple[int, str, int, Sequence[tuple[int, float]]]],
    names: Sequence[str],
    parts: Sequence[str],
    most: int,
) -> dict[str, Any]:
    several = len(names) > 1
    rows = [
        {
            **{"run": f"run {run}", "name": names[run], "part": part, "seed": seed, "few": len(points) <= FEW},
            **dict(zip(("step", "value"), map(list, zip(*_thinned(points, most), strict=True)), strict=True)),
        }
        for run, part, seed, points in found
    ]
    whose, who = ("run:N", [f"run {run}" for run in range(len(names))]) if several else ("part:N", list(parts))
    colours = [f"var(--line-{place % COLOURS})" for place in range(len(who))]
    dashes, widths = list(map(_dash, range(len(who)))), list(map(_width, range(len(parts))))
    hidden = alt.param(name="hidden", value=[])
    zoom = alt.selection_interval(name="zoom", bind="scales", zoom="wheel![event.ctrlKey || event.metaKey]")
    near = alt.selection_point(
        name="near", fields=["step"], nearest=True, on="pointermove", clear="pointerout", empty=False
    )
    steps = alt.Axis(tickMinStep=1, tickCount=5, labelOverlap="greedy", labelSeparation=8)
    base = (
        alt.Chart(alt.InlineData(values=rows))
        .transform_flatten(["step", "value"])
        .transform_filter("indexof(hidden, datum.run) < 0 && indexof(hidden, datum.part) < 0")
        .encode(
            x=alt.X(
                "step:Q",
                title="step",
                scale=alt.Scale(nice=False, zero=True, padding=6),
                axis=steps,
            ),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
            color=alt.Color(whose, scale=alt.Scale(domain=who, range=colours), legend=None),
            detail=["run:N", "part:N", "seed:N"],
        )
    )
    wide = alt.Scale(type="ordinal", domain=list(parts), range=widths)  # else they would be spread evenly over a range
    width = alt.StrokeWidth("part:O", scale=wide, legend=None)
    lines = base.mark_line(clip=True, aria=False).encode(
        strokeDash=alt.StrokeDash(whose, scale=alt.Scale(domain=who, range=dashes), legend=None),
        strokeWidth=width if several else alt.value(WIDTH if len(found) <= 2 * len(parts) else NARROW),
    )
    seeds = len({seed for _, _, seed, _ in found}) > 1
    tooltip = alt.TooltipValue(alt.ExprRef(_asked(metric, several=several, seeds=seeds)))
    dots = base.mark_point(filled=True, clip=True, aria=False).encode(
        size=alt.condition(near, alt.value(80), alt.value(22)),
        opacity=alt.when(near).then(alt.value(1)).when("datum.few").then(alt.value(1)).otherwise(alt.value(0)),
        tooltip=tooltip,
    )
    whole = alt.layer(lines.add_params(hidden, zoom), dots.add_params(near)).properties(
        width="container", height=HEIGHT, background="transparent", description=_described(metric, found, names)
    )
    ink = {"labelColor": "var(--soft)", "titleColor": "var(--soft)", "gridColor": "var(--grid)"}
    ink |= {"domainColor": "var(--grid)", "tickColor": "var(--grid)", "labelFontSize": 12, "titleFontSize": 12}
    font = "system-ui, sans-serif"
    return whole.configure(font=font).configure_axis(**ink).configure_view(stroke=None).to_dict()


def _asked(metric: str, *, several: bool, seeds: bool) -> str:
    """A Vega expression of what a point tells; by fields, a tooltip says "undefined" of words of the nearest point."""
    point = "(datum.datum || datum)"
    told = {"run": f"{point}.name"} if several else {}
    told["of"] = f"{point}.part"
    if seeds:
        told["run of these"] = f"{point}.seed + 1"
    told |= {"step": f"format({point}.step, ',')", metric: f"format({point}.value, '.5g')"}
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in told.items()) + "}"


def _described(
    metric: str, found: Sequence[tuple[int, str, int, Sequence[tuple[int, float]]]], names: Sequence[str]
) -> str:
    """A chart in words, for those who do not see it."""
    several = len(names) > 1
    said = [
        f"{f'{names[run]}, ' * several}{part} from {points[0][1]:.4g} to {points[-1][1]:.4g} at step {points[-1][0]}"
        for run, part, seed, points in found
        if not seed
    ]
    return f"{metric} over steps: {'; '.join(said)}."


def _thinned(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most so many of the points, evenly, the first and the last included."""
    places = np.unique(np.linspace(0, len(points) - 1, min(len(points), most)).round().astype(int))
    return [points[place] for place in places]
