"""What codes are worth: to a linear classifier, to neighbours, and beside the principal components of the pixels.

On the host, by scikit-learn, which takes a second to import and is imported late.
"""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CHUNK = 4096  # images that are projected at once: copies of a whole set would be large
DOTS = 4000  # of a map: more hide each other


class PrincipalComponents:
    """The linear autoencoder that is best in squared error, fitted on the images of one split (Hotelling, 1933).

    Args:
      pixels: [N, H, W, C] in [0, 1].
      size: of the code. There are no more components than pixels or images; then it is that many.
    """

    def __init__(self, pixels: np.ndarray, size: int):
        from sklearn.decomposition import PCA

        rows = _rows(pixels)
        self._pca = PCA(min(size, *rows.shape), random_state=0).fit(rows)

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """The codes [N, Z] of images [N, H, W, C]."""
        return self._pca.transform(_rows(pixels))

    def reconstruct(self, pixels: np.ndarray) -> np.ndarray:
        """The images [N, H, W, C] that are made of their codes; nothing keeps them in [0, 1]."""
        return self._pca.inverse_transform(self.encode(pixels)).reshape(pixels.shape)

    def squared_error(self, pixels: np.ndarray) -> float:
        """The squared error of a reconstruction, summed over pixels, averaged over the images [N, H, W, C]."""
        parts = np.array_split(pixels, math.ceil(len(pixels) / CHUNK))
        return sum(np.square(part - self.reconstruct(part)).sum(dtype=np.float64) for part in parts) / len(pixels)


def accuracies(
    code: Mapping[str, np.ndarray], label: Mapping[str, np.ndarray], *, neighbours: int = 5
) -> dict[str, dict[str, float]]:
    """How well labels can be read off codes by classifiers that were fitted on the split "train".

    Args:
      code: split -> [N, Z].
      label: split -> [N] integers.
      neighbours: of the vote.

    Returns:
      For every other split {"probe_accuracy": of logistic regression on standardised codes (the linear probe of Alain
      and Bengio, 2017; L2 penalty of strength 1 as is scikit-learn's default), "knn_accuracy": of the vote of the
      nearest neighbours by Euclidean distance, of codes as they are}. Nothing where all of "train" is one class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    others = [split for split in code if split != "train"]
    if len(np.unique(label["train"])) == 1:
        return {split: {} for split in others}
    fitted = {
        "probe_accuracy": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "knn_accuracy": KNeighborsClassifier(min(neighbours, len(code["train"])), algorithm="brute"),
    }
    for classifier in fitted.values():
        classifier.fit(code["train"], label["train"])
    return {
        split: {name: float(classifier.score(code[split], label[split])) for name, classifier in fitted.items()}
        for split in others
    }


def draw_map(path: pathlib.Path, codes: Mapping[str, np.ndarray], label: np.ndarray, classes: Sequence[str]) -> None:
    """Draws codes as dots in the plane of their first two principal components, coloured by class.

    Args:
      path: of the PNG.
      codes: title -> [N, Z], each with a panel of its own; the first 4,000 are drawn. One number lies on a line.
      label: [N] integers in [0, K).
      classes: names of the K classes.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(codes) + 1, 6), layout="constrained")
    size = np.clip(8000 / len(label), 6, 30)  # of a dot, in square points
    colors = colormaps["tab10" if len(classes) <= 10 else "turbo"]
    shades = [colors(k if len(classes) <= 10 else k / (len(classes) - 1)) for k in range(len(classes))]
    for axes, (title, code) in zip(figure.subplots(1, len(codes), squeeze=False)[0], codes.items(), strict=True):
        plane, share = _plane(code)
        for k in range(len(classes)):
            dots = plane[:DOTS][label[:DOTS] == k]
            axes.scatter(*dots.T, s=size, color=shades[k], linewidths=0, alpha=0.7, label=classes[k])
            if len(dots) and len(classes) <= 20:
                _name(axes, np.median(dots, axis=0), classes[k], shades[k])
        axes.set(title=f"{title}, {share:.0%} of the variance", xticks=[], yticks=[])
        axes.set_box_aspect(1)
    if len(classes) <= 20:
        handles = axes.get_legend_handles_labels()
        legend = figure.legend(*handles, loc="outside right center", markerscale=2, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)  # a class's name may hold dollars
    figure.savefig(path, dpi=100)


def _name(axes: Any, place: np.ndarray, name: str, color: tuple[float, ...]) -> None:
    """Writes the name of a class amid its dots."""
    box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": color, "alpha": 0.85}
    axes.text(*place, name, ha="center", va="center", fontsize=10, bbox=box, parse_math=False)


def _plane(code: np.ndarray) -> tuple[np.ndarray, float]:
    """The first two principal components [N, 2] of codes [N, Z], and their share of the variance."""
    from sklearn.decomposition import PCA

    pca = PCA(min(2, *code.shape), random_state=0).fit(code)
    plane = pca.transform(code)
    return np.pad(plane, ((0, 0), (0, 2 - plane.shape[1]))), pca.explained_variance_ratio_.sum()


def _rows(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(len(pixels), -1)
