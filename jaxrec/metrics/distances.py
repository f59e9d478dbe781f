"""How far generated images are from real ones, by what a network makes of both: rows [N, D] of features, on the host.

Every number here depends on the network, the layer and the number of images: numbers compare where all three are the
same. What a perfect generator would get is the number of other real images in the generated ones' place.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxrec.errors import InputError
from jaxrec.metrics import Rows
from jaxrec.types import Array, Count

# What is computed of each kind of rows: a network's features and its logits, or the images' own pixels. Distances of
# pixels have names of their own, so that nobody takes one for the other.
MEASURES = {
    "features": ("frechet", "precision", "recall", "density", "coverage"),
    "logits": ("frechet_logits", "classifier_score"),
    "pixels": ("frechet_pixels", "precision_pixels", "recall_pixels", "density_pixels", "coverage_pixels"),
}
NEIGHBOURHOODS = 10_000  # images whose neighbours are looked at, at most: the time is their square
ENTRIES = 2**23  # of a matrix of distances in memory at once: 64 MB


class FeaturePairs(NamedTuple):
    """Rows of as many real as generated images, for the evaluation step of whatever makes images.

    They merge by concatenation, so that a distance over a split is exact for any batch size and device count: distances
    of batches cannot be averaged. A split takes 8 N D bytes on each device until the pass ends.
    """

    real: Rows  # each [B, D] float32, under the names of MEASURES
    generated: Rows

    def across(self, axis: str) -> "FeaturePairs":
        """Puts the rows of all devices together, in the order of the global batch."""
        return FeaturePairs(self.real.across(axis), self.generated.across(axis))

    @classmethod
    def merge(cls, parts: Sequence["FeaturePairs"]) -> "FeaturePairs":
        """Puts the rows together."""
        return cls(*map(Rows.merge, zip(*parts, strict=True)))

    def compute(self) -> dict[str, float]:
        """The numbers of `compare`."""
        return compare(self.real.compute(), self.generated.compute())


def pairs(real: Mapping[str, Array], generated: Mapping[str, Array], mask: Array) -> dict[str, FeaturePairs]:
    """The metrics of a batch: rows [B, D] of real and of generated images, under the names of MEASURES; mask [B]."""
    return {"": FeaturePairs(Rows(real, mask), Rows(generated, mask))}


def compare(real: Mapping[str, np.ndarray], generated: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What there is to say about generated images beside real ones, by what is known of both.

    Args:
      real: one or several of "features" [N, D], "logits" [N, K] and "pixels" [N, D].
      generated: the same of other images, M of each.

    Returns:
      The numbers of MEASURES: `frechet`, and the neighbourhoods of at most 10,000 images, evenly spaced, of each side.
      All are NaN if anything is not finite, as of a generator that has diverged.

    Raises:
      InputError: there are fewer than 6 images of a side, or features of another width.
    """
    names = [name for kind in real for name in MEASURES[kind]]
    if not all(np.isfinite(rows).all() for rows in (*real.values(), *generated.values())):
        return dict.fromkeys(names, math.nan)
    numbers: list[float] = []
    for kind, rows in real.items():
        numbers.append(frechet(rows, generated[kind]))
        numbers += (
            [classifier_score(generated[kind])]
            if kind == "logits"
            else neighbourhoods(_evenly_spaced(rows), _evenly_spaced(generated[kind]))
        )
    return dict(zip(names, numbers, strict=True))


def frechet(real: np.ndarray, generated: np.ndarray) -> float:
    """Frechet distance of two Gaussians with the means and covariances of the rows (Dowson and Landau, 1982).

    Of Inception's features it is the FID (Heusel et al., 2017, equation 6): |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^1/2),
    with covariances over N - 1. It is not scaled and depends on N: it falls towards its limit as N grows.

    With Ci = Ri' Ri by a QR decomposition of the centred rows, the trace of the root is the sum of the singular values
    of R1 R2'. So no covariance is squared or inverted, fewer images than features are no special case, and nothing is
    complex: the root of C1 C2 itself, as it is often taken, fails there.

    Args:
      real: [N, D].
      generated: [M, D].

    Raises:
      InputError: there are fewer than 2 rows of either, or their widths differ.
    """
    _check(real, generated, least=2)
    (mean, factor), (other_mean, other_factor) = _moments(real), _moments(generated)
    root = np.linalg.svd(factor @ other_factor.T, compute_uv=False).sum()
    spread = np.square(factor).sum() + np.square(other_factor).sum() - 2 * root
    return float(np.square(mean - other_mean).sum() + max(spread, 0.0))


def classifier_score(logits: np.ndarray) -> float:
    """exp of the mean Kullback-Leibler divergence of a class distribution from their mean, from 1 to K.

    With Inception's logits it is the Inception Score (Salimans et al., 2016, section 4), there the mean over ten parts
    of the images, here over all of them at once. It does not look at real images, so theirs belongs beside it.

    Args:
      logits: of the generated images, [N, K].
    """
    logits = logits.astype(np.float64)
    logs = logits - logits.max(-1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(-1, keepdims=True))  # log p(y | x)
    mean = np.logaddexp.reduce(logs, axis=0, keepdims=True) - np.log(len(logs))  # log p(y)
    return float(np.exp((np.exp(logs) * (logs - mean)).sum(-1).mean()))


class Neighbourhoods(NamedTuple):
    """How well two sets of points cover each other, by nearest neighbours."""

    precision: float  # share of the generated that look real
    recall: float  # share of the real that the generator could have made
    density: float  # mean number of real images' balls that a generated one lies in, over k; may be above 1
    coverage: float  # share of the real that have a generated neighbour


def neighbourhoods(real: np.ndarray, generated: np.ndarray, *, k: Count = 3, wide: Count = 5) -> Neighbourhoods:
    """Improved precision and recall, density and coverage, from k-nearest-neighbour balls.

    The ball of a point is centred there; its radius is the distance to the point's k-th nearest neighbour among the
    points of the same set (real or generated), itself not counted. The surface belongs to it. Precision is the share of
    generated points that lie in the ball of at least one real point, recall the share of real points that lie in the
    ball of at least one generated point (Kynkaanniemi et al., 2019, equations 1 and 2). With `wide` in the place of k,
    density is the mean number of real points' balls that a generated point lies in, divided by `wide`, and coverage the
    share of real points whose ball holds at least one generated point (Naeem et al., 2020, equations 4 and 5). One
    outlier among the real points changes precision and recall, but hardly these two.

    Args:
      real: [N, D].
      generated: [M, D].
      k: the neighbour of precision and recall.
      wide: that of density and coverage.

    Raises:
      InputError: there are as few points as neighbours, or their widths differ.
    """
    _check(real, generated, least=max(k, wide) + 1)
    centre = real.mean(0, dtype=np.float64, keepdims=True)  # differences are all that counts, and are smaller so
    real, generated = real - centre, generated - centre
    (near, wider), (generated_near,) = _radii(real, (k, wide)), _radii(generated, (k,))
    precise, inside = 0, 0
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for part, squares in _squared_distances(generated, real):
        within = squares <= wider[None]
        precise += (squares <= near[None]).any(1).sum()
        recalled |= (squares <= generated_near[part, None]).any(0)
        inside += within.sum()
        covered |= within.any(0)
    return Neighbourhoods(
        float(precise / len(generated)),
        float(recalled.mean()),
        float(inside / (wide * len(generated))),
        float(covered.mean()),
    )


def _check(real: np.ndarray, generated: np.ndarray, least: int) -> None:
    shapes = np.shape(real), np.shape(generated)
    if not len(shapes[0]) == len(shapes[1]) == 2 or shapes[0][1] != shapes[1][1]:
        raise InputError(f"Features to compare need shapes [N, D] and [M, D], got {shapes[0]} and {shapes[1]}.")
    if min(shapes[0][0], shapes[1][0]) < least:
        raise InputError(
            f"{shapes[0][0]} real and {shapes[1][0]} generated images: this distance needs {least} of each, and means "
            "something with thousands."
        )


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean [D] and a factor R [min(N, D), D] of the covariance R' R, both float64.

    The QR decomposition takes the rows in parts, each under the factor of those before, so that memory is bounded.
    """
    mean = rows.mean(0, dtype=np.float64)
    factor = np.empty((0, rows.shape[1]))
    for part in np.array_split(rows, math.ceil(len(rows) / max(4096, rows.shape[1]))):
        factor = np.linalg.qr(np.concatenate([factor, part - mean[None]]), mode="r")
    return mean, factor / np.sqrt(len(rows) - 1)


def _radii(rows: np.ndarray, neighbours: Sequence[int]) -> np.ndarray:
    """Squared distances of each of [N, D] to its k-th nearest neighbours, itself left out: [len(neighbours), N]."""
    kth = [k - 1 for k in neighbours]
    radii = np.empty((len(kth), len(rows)))
    for part, squares in _squared_distances(rows, rows):
        squares[np.arange(len(squares)), np.arange(len(rows))[part]] = np.inf
        radii[:, part] = np.partition(squares, kth, axis=1)[:, kth].T
    return radii


def _squared_distances(rows: np.ndarray, others: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Squared distances of a part of the rows to all others, [P, M], part by part."""
    lengths = np.square(others).sum(1)
    size = max(1, ENTRIES // len(others))
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        squares = np.square(rows[part]).sum(1)[:, None] + lengths[None] - 2 * rows[part] @ others.T
        yield part, np.maximum(squares, 0.0)


def _evenly_spaced(rows: np.ndarray) -> np.ndarray:
    """All rows, or as many as neighbourhoods look at: not the first, since a set may be sorted by class."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), NEIGHBOURHOODS)).round().astype(int)]
