"""The picture of an explanation: images, maps over them, training images beside them."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxrec.output.pictures import contact_sheet

FAINT = 0.35  # of the image, under a map
STRIPE = 0.2  # of the image's height, of the scale


def draw(
    file: pathlib.Path,
    image: np.ndarray,
    target: np.ndarray,
    found: Mapping[str, np.ndarray],
    maps: Mapping[str, np.ndarray],
    near: Sequence[np.ndarray],
    label: np.ndarray | None,
    classes: Sequence[str],
) -> None:
    """Draws a column for each image: itself, its maps over it, the training images that are nearest.

    Args:
      file: of the PNG.
      image: [N, H, W, C], floats.
      target: the class that is explained, [N].
      found: what the network answers; "logits", or "reconstruction" [N, H, W, C].
      maps: by name, [N, H, W], 0 or more.
      near: of each rank the images [N, H, W, C].
      label: [N], where there are any.
      classes: their names.
    """
    rows = treated(image, found, maps)
    strip = np.broadcast_to(np.linspace(0, 1, image.shape[2]), image.shape[:3])
    height = np.indices(image.shape[1:3])[0] < STRIPE * image.shape[1]
    rows["scale: 0 to the largest"] = np.where(height[None, ..., None], _coloured(strip), 1)
    rows |= {f"nearest of training, {rank}": images for rank, images in enumerate(near, 1)}
    told = label is not None and label.ndim == 1
    if "logits" not in found:
        titles = [classes[own] for own in label] if told and classes else ()
    elif told:
        titles = [
            classes[answer] if answer == own else f"{classes[own]}, says {classes[answer]}"
            for own, answer in zip(label, target, strict=True)
        ]
    else:
        titles = [classes[answer] for answer in target]
    contact_sheet(file, {title: rgb_of(images) for title, images in rows.items()}, titles)


def treated(
    image: np.ndarray, found: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Images [N, H, W, C] by what they show: themselves, reconstructions, maps over them. Arguments as in `draw`."""
    rows = {"image": image}
    if "reconstruction" in found:
        rows["reconstruction"] = found["reconstruction"]
    for name, heat in maps.items():
        largest = np.ones(1) if name == "row_by_row" else heat.max((1, 2))  # that one is a probability
        rows[name.replace("_", " ")] = _over_image(image, heat / np.maximum(largest, 1e-12).reshape(-1, 1, 1))
    return rows


def _over_image(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A map in [0, 1] in colours over the faint grey image, [N, H, W, 3]."""
    return FAINT * rgb_of(image).mean(-1, keepdims=True) + (1 - FAINT) * _coloured(heat)


def _coloured(heat: np.ndarray) -> np.ndarray:
    from matplotlib import colormaps  # takes half a second to import

    return colormaps["inferno"](heat)[..., :3]


def rgb_of(image: np.ndarray) -> np.ndarray:
    """Images [N, H, W, 3] in [0, 1]; those in other units, each by its own range."""
    low, high = (image.min((1, 2, 3), keepdims=True), image.max((1, 2, 3), keepdims=True))
    if image.min() < 0 or image.max() > 1:
        image = (image - low) / np.maximum(high - low, 1e-12)
    return image if image.shape[-1] == 3 else image.mean(-1, keepdims=True).repeat(3, axis=-1)
