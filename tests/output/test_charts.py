"""Charts are drawn, and show what they are given."""

import numpy as np
from matplotlib.image import imread

from jaxrec.output import charts


def test_a_reliability_diagram_has_a_part_for_each(tmp_path):
    confidence, accuracy, examples = np.array([0, 0.4, 0.9]), np.array([0, 0.5, 0.8]), np.array([0, 10, 90])
    one, two = (dict.fromkeys(names, (confidence, accuracy, examples, 0.1)) for names in ("a", "ab"))
    charts.reliability_diagram(tmp_path / "one.png", one)
    charts.reliability_diagram(tmp_path / "two.png", two)
    widths = [imread(tmp_path / f"{name}.png").shape[1] for name in ("one", "two")]
    assert widths[1] == 2 * widths[0]


def test_curves_over_strength_differ_where_their_values_do(tmp_path):
    for name, values in (("falls", [0.9, 0.5, 0.1]), ("stays", [0.9, 0.9, 0.9])):
        charts.against_strength(tmp_path / f"{name}.png", {"noise": values}, "accuracy", "a run")
    pictures = [imread(tmp_path / f"{name}.png") for name in ("falls", "stays")]
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[0] != pictures[1]).any()
