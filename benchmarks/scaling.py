"""How the cost of jaxrec's `fit` grows: images/s and peak memory against batch, image, width and size of the data set.

    python benchmarks/scaling.py [--seconds=5] [--only=batch]

The network is the seed CNN of speed.py. Each point is a process of its own, started afresh, so that its peak is its
own. The images are scikit-learn's digits, enlarged and repeated: what they show does not matter to the cost.
"""

import argparse
import pathlib
import sys
from typing import NamedTuple

from peers import documents
from peers.process import running

ROOT = pathlib.Path(__file__).parents[1]
SPEED = 3000  # images/s of the network as it is, roughly; it only sets how often the clock is read


class Point(NamedTuple):
    series: str
    batch: int = 128
    side: int = 32
    width: int = 1
    examples: int = 12_500

    @property
    def log_every(self) -> int:
        """Steps that take about half a second."""
        return max(1, round(SPEED / 2 / self.batch * (32 / self.side) ** 2 / self.width**2))


POINTS = [
    *(Point("batch", batch=batch) for batch in (8, 32, 128, 512, 1024)),
    *(Point("image", batch=32, side=side, examples=2_500) for side in (28, 56, 112, 224)),
    *(Point("width", width=width) for width in (1, 2, 4)),
    *(Point("examples", examples=12_500 * times) for times in (1, 4, 16)),
]


def train(point: Point) -> None:
    """The child: trains one point in turns."""
    from peers import data, jaxrec_fit, jaxrec_tasks
    from peers.turns import Turns

    turns = Turns()
    arrays = data.digits((point.side, point.side, 3), point.examples)
    jaxrec_fit.run(jaxrec_tasks.seed_cnn(point.width), arrays, point.batch, point.log_every, turns)


def measure(index: int, seconds: float) -> str:
    """A line of the table."""
    point = POINTS[index]
    with running([sys.executable, __file__, f"--point={index}"]) as process:
        process.answer()
        answer = process.train(seconds)
    speed, peak = answer["images"] / answer["seconds"], answer["peak_bytes"] / 1e6
    return (
        f"| {point.series} | {point.batch} | {point.side}x{point.side}x3 | x{point.width} | {point.examples:,} | "
        f"{answer['parameters']:,} | {speed:,.0f} | {1e3 / speed:.3g} | {peak:,.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of training, for each point")
    parser.add_argument("--only", choices=dict.fromkeys(point.series for point in POINTS), help="prints only")
    parser.add_argument("--docs", type=pathlib.Path, default=ROOT / "docs/speed.md")
    parser.add_argument("--point", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point is not None:
        train(POINTS[options.point])  # and does not come back
    if not options.only:
        documents.check(options.docs, "scaling")
    head = "series | batch | image | width | examples | parameters | images/s | ms an image | peak MB"
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    print(*lines, sep="\n")
    for index, point in enumerate(POINTS):
        if options.only in (None, point.series):
            lines.append(measure(index, options.seconds))
            print(lines[-1], flush=True)
    if not options.only:
        words = f"{documents.cores()}, one process for each line, at least {options.seconds:g} s of training in each."
        documents.write_between(options.docs, "scaling", [words, "", *lines])


if __name__ == "__main__":
    main()
