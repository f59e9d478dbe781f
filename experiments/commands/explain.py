"""Why a run's network answers as it does: maps of images, and the training images that it finds most alike."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.explained import Subject, subject_of
from experiments.heat_maps import draw
from experiments.images import images_of
from experiments.inputs import named_pictures
from experiments.predictor import Predictor
from experiments.stored import check_same_data, config_of, notes_of, weights_of
from jaxrec import explain as explanations
from jaxrec.data import transforms
from jaxrec.data.batches import Dataset
from jaxrec.errors import InputError, did_you_mean
from jaxrec.output.report import write_csv
from jaxrec.output.workdir import check_writable
from jaxrec.types import Array, Count, Names, Paths, Seed, Whole

BATCH = 256  # images at once, where a whole split is looked at
SEARCHED = 10_000  # training images among which the nearest are looked for


class Chosen(NamedTuple):
    """The images that are explained."""

    names: Sequence[str]  # files, or numbers in the data set
    image: np.ndarray  # [N, H, W, C]
    label: np.ndarray | None = None  # [N], where they are known
    ids: np.ndarray | None = None  # [N], in the data set, where they are of it


def explain(
    *,
    run: str,
    images: Paths | None = None,
    split: Literal["train", "validation", "test"] = "test",
    pick: Literal["wrong", "confident", "random"] = "wrong",
    count: Count = 8,
    methods: Names | None = None,
    layer: str | None = None,
    neighbours: Whole = 3,
    seed: Seed = 0,
    out: str | None = None,
) -> int:
    """Writes a picture of maps, the maps themselves (.npz), and what they are worth (.csv), into the run's folder.

    What is explained of a recogniser is its answer, right or wrong; of an autoencoder it is which pixels it made worst.

    Args:
      run: the folder of a run that recognises or reconstructs images: its chosen state, or its newest.
      images: pictures, as `predict` takes them; by default some of the run's own data.
      split: of these data.
      pick: which of the split: the mistakes, the surest first; the right answers, the surest first; or any. Of what
        reconstructs, the worst, the best, or any.
      count: how many.
      methods: which maps, see docs/explain.md; all that this network can have by default.
      layer: whose feature map Grad-CAM weighs; the last one by default.
      neighbours: how many training images are shown that are nearest in the space of features; 0 for none.
      seed: of what is drawn.
      out: the files' name without its ending; by default explain_<split>_<pick> or explain_images in the run's folder.

    Returns:
      The exit code.

    Raises:
      InputError: there is no such run, image, method or layer, the data have changed, or `out` cannot be written.

    Example:
      python launch.py explain --run=runs/digits_cnn --pick=confident --count=4
    """
    folder = pathlib.Path(run)
    file = pathlib.Path(out) if out else folder / ("explain_images" if images else f"explain_{split}_{pick}")
    config, notes = config_of(folder, "--run"), notes_of(folder, "--run")
    check_writable(file.with_suffix(".png"), "--out")  # found out before anything is computed
    own = None
    if not images or neighbours or "shape" not in notes:
        own = data_of(folder, config, notes)
        notes = {**notes, "shape": own.image.shape[1:]}
    subject = subject_of(config, notes, *weights_of(folder, "--run")[:2], layer=layer, seed=seed)
    wanted = wanted_of(subject, methods)
    if images:
        chosen = _named(images, notes)
        if config.get("conditional"):
            raise InputError("explain of a conditional run needs labels, which pictures have not. Take --split.")
    else:
        chosen = picked(subject, own, split, pick, count, seed)
    label = np.zeros(len(chosen.image), np.int32) if chosen.label is None else chosen.label
    image = floats_of(chosen.image)
    found = jax.device_get(jax.jit(subject.answers)(image, label))
    if not all(np.isfinite(value).all() for value in found.values()):
        raise InputError(f"--run = '{folder}': its answers are not finite, it has diverged. Take another run.")
    target = found["logits"].argmax(-1) if "logits" in found else label
    maps = {name: np.asarray(jax.jit(subject.maps[name])(image, target), np.float32) for name in wanted}
    near = (
        _nearest(subject, own, chosen, found["features"], neighbours) if neighbours else np.zeros((len(image), 0), int)
    )
    table = _table(subject, chosen, image, target, found, maps, near, notes["classes"], seed)
    beside = [floats_of(own.image[ids]) for ids in near.T]
    draw(file.with_name(f"{file.name}.png"), image, target, found, maps, beside, chosen.label, notes["classes"])
    np.savez(
        file.with_name(f"{file.name}.npz"),
        **{**maps, **{name: value for name, value in found.items() if name != "features"}},
        **{"image": chosen.image, "name": np.array(chosen.names), "nearest": near},
        **({} if chosen.label is None else {"label": chosen.label}),
    )
    write_csv(file.with_name(f"{file.name}.csv"), list(table[0]), [list(row.values()) for row in table])
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{len(image)} images by step {subject.step} of {run}: {', '.join(maps)}. {file}.png, .npz and .csv")
    return 0


def data_of(folder: pathlib.Path, config: Mapping[str, Any], notes: Mapping[str, Any]) -> Dataset:
    """The run's own data, if they are those that it has learned from."""
    read = images_of(config)
    check_same_data(folder, notes, {name: read.notes[name] for name in ("splits", "contents")})
    return read.dataset


def wanted_of(subject: Subject, methods: Sequence[str] | None) -> Sequence[str]:
    """The names of the maps."""
    for name in methods or ():
        if name not in subject.maps:
            near, allowed = did_you_mean(name, subject.maps), ", ".join(subject.maps)
            raise InputError(f"--methods: this network has no {name!r}.{near} It has: {allowed}.")
    return list(dict.fromkeys(methods or subject.maps))


def _named(words: Sequence[str], notes: Mapping[str, Any]) -> Chosen:
    """Pictures that the command line names, as the run's images are."""
    reader = Predictor(
        classes=(),
        shape=tuple(notes["shape"]),
        several=False,
        unit_range=notes.get("unit_range", True),
        crop=notes.get("crop", 1.0),
        step=0,
        temperature=None,
        batch_size=1,
        network=lambda pixels: pixels,
    )
    pictures, _ = named_pictures(words)
    return Chosen([name for name, _ in pictures], np.stack([reader.pixels(image, name) for name, image in pictures]))


def picked(subject: Subject, own: Dataset, split: str, pick: str, count: int, seed: int) -> Chosen:
    """Images of a split."""
    if split not in own.splits:
        raise InputError(f"--split={split}: these data have {', '.join(own.splits)}.")
    ids = own.splits[split]
    if pick == "random":
        ids = np.random.default_rng(seed).permutation(ids)
    else:
        worth = _over(own, ids, lambda image, label: _worth(subject, image, label))
        asked = np.flatnonzero((worth < 0) == (pick == "wrong") if subject.baseline is not None else worth == worth)
        if not len(asked):
            other = {"wrong": "confident", "confident": "wrong"}[pick]
            raise InputError(f"--pick={pick}: this network has none on {split}. Take --pick={other}.")
        ids = ids[asked[np.argsort(worth[asked] * (1 if pick == "wrong" else -1), kind="stable")]]
    ids = ids[:count]
    label = own.arrays.get("label")
    return Chosen([str(index) for index in ids], own.image[ids], None if label is None else label[ids], ids)


def _worth(subject: Subject, image: Array, label: Array) -> Array:
    """How sure a right answer is, and, below 0, a wrong one, [B]; of a reconstruction its error, times -1."""
    found = subject.answers(image, label)
    if "reconstruction" in found:
        return -jnp.square(found["reconstruction"] - image).mean((1, 2, 3))
    return sureness(subject.probabilities(found["logits"]), label)


def sureness(probabilities: Array, label: Array) -> Array:
    """The largest of the probabilities [N, K], where its class is none of the image's times -1, [N]."""
    answer = probabilities.argmax(-1)
    right = answer == label if label.ndim == 1 else jnp.take_along_axis(label, answer[:, None], axis=1)[:, 0] > 0
    return jnp.where(right, 1, -1) * probabilities.max(-1)


def _over(own: Dataset, ids: np.ndarray, measure: Callable[[Array, Array], Array]) -> np.ndarray:
    """A measure of many images, in batches that are filled up."""
    compiled, parts = jax.jit(measure), []
    for start in range(0, len(ids), BATCH):
        rows = np.resize(ids[start : start + BATCH], BATCH)
        label = own.label[rows] if "label" in own.arrays else np.zeros(BATCH, np.int32)
        parts.append(np.asarray(compiled(floats_of(own.image[rows]), label)))
    return np.concatenate(parts)[: len(ids)]


def _nearest(subject: Subject, own: Dataset, chosen: Chosen, features: np.ndarray, count: int) -> np.ndarray:
    """The training images [N, count] that are nearest to features [N, D], the explained ones themselves left out.

    Of a larger set `SEARCHED` are looked at, in even distances.
    """
    ids = np.setdiff1d(own.splits["train"], [] if chosen.ids is None else chosen.ids)
    ids = ids[np.linspace(0, len(ids) - 1, min(len(ids), SEARCHED)).round().astype(int)]
    others = _over(own, ids, lambda image, label: subject.answers(image, label)["features"])
    which, _ = explanations.nearest(features, others, count)
    return ids[np.asarray(which)]


def _table(
    subject: Subject,
    chosen: Chosen,
    image: np.ndarray,
    target: np.ndarray,
    found: Mapping[str, np.ndarray],
    maps: Mapping[str, np.ndarray],
    near: np.ndarray,
    classes: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    """A row for each image: what is known of it, what is answered, and how far each map can be believed."""
    columns: dict[str, Sequence[Any]] = {"image": chosen.names}
    if chosen.label is not None and chosen.label.ndim == 1:
        columns["label"] = [classes[label] for label in chosen.label]
    if "logits" in found:
        columns["class"] = [classes[answer] for answer in target]
        columns["probability"] = np.asarray(subject.probabilities(found["logits"])).max(-1)
        random, areas = np.random.default_rng(seed).random(image.shape[:3], np.float32), areas_of(subject)
        for name, heat in {**maps, "random": random}.items():
            for curve, value in jax.device_get(areas(image, target, heat)).items():
                columns[f"{curve}_{name}"] = value
    else:
        columns["squared_error"] = np.square(found["reconstruction"] - image).mean((1, 2, 3))
    columns |= {f"nearest_{rank}": ids for rank, ids in enumerate(near.T, 1)}
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, map(_cell, row), strict=True)) for row in rows]


def areas_of(
    subject: Subject, cover: Callable[[Array], Array] | None = None
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, Array]]:
    """The function of images, classes and a map of each that gives the areas under both curves, [N] each.

    Args:
      subject: whose answers they are.
      cover: what pixels are covered by, of images [N, H, W, C]; the subject's baseline by default.
    """
    curves = {"deletion": explanations.deletion, "insertion": explanations.insertion}

    @jax.jit
    def areas(image: Array, target: Array, heat: Array) -> dict[str, Array]:
        def logits(image: Array) -> Array:
            return subject.answers(image, target)["logits"]

        arguments = (logits, image, target, heat, cover(image) if cover else subject.baseline)
        return {
            name: explanations.area(curve(*arguments, probabilities=subject.probabilities))
            for name, curve in curves.items()
        }

    return areas


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, np.floating) else value


def floats_of(image: np.ndarray) -> np.ndarray:
    """Images as the run's network takes them, float32."""
    return np.asarray(transforms.unit_range({"image": np.asarray(image)})["image"], np.float32)
