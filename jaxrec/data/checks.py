"""What is looked at in arrays before they become a data set: images, labels, pixels.

A set is its splits, {"train": {"image": ..., "label": ..., ...}, ...}, train first. What cannot be meant is an
InputError in one line, what may be meant a warning; both begin with `where`, which names the file or the set, and name
the array as an `.npz` file does: x_train, y_train, boxes_train, ...
"""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from jaxrec.data.batches import OWN, fits_int32
from jaxrec.data.transforms import moments
from jaxrec.errors import InputError, described

Parts = Mapping[str, Mapping[str, np.ndarray]]  # split -> key -> array [n, ...]

LETTERS = {"image": "x", "label": "y"}  # how the arrays of these keys are called in a file
RARE = 0.99  # share of the images that are usual, from which on the others are taken for mistakes
FAR = 1000  # times the largest value of most images: no camera takes both
SWAMPED = 10  # times the deviation of all other pixels


def array_name(key: str, split: str) -> str:
    """How an `.npz` file calls the array of a key and split."""
    return f"{LETTERS.get(key, key)}_{split}"


def checked(parts: Parts, classes: Sequence[str] | None, where: str) -> tuple[Parts, tuple[str, ...]]:
    """A set whose images are [n, H, W, C] uint8 or float32, whose labels are int32, and the names of its classes.

    Args:
      parts: the splits as they were read.
      classes: names of the classes, or None: they are numbers then.
      where: what the lines begin with.

    Raises:
      InputError: it cannot be meant.
    """
    keys = {key for part in parts.values() for key in part}
    for split, part in parts.items():
        for key in sorted(keys - set(part)):
            other = next(other for other in parts if key in parts[other])
            raise InputError(
                f"{where}: {array_name(key, other)} is there and {array_name(key, split)} is not. Every split needs "
                "the same arrays: add it, or leave the array or the split out."
            )
    for key in sorted(keys & {*OWN}):
        raise InputError(
            f"{where}: {array_name(key, 'train')} cannot be used, batches say {', '.join(OWN)} of their rows "
            f"themselves. Give it another name, such as own_{key}_train."
        )
    read = {"image": _image, "label": _label}
    parts = {
        split: {key: read.get(key, _any)(array, f"{where}: {array_name(key, split)}") for key, array in part.items()}
        for split, part in parts.items()
    }
    for split, part in parts.items():
        for key, array in part.items():
            first, name = parts["train"][key], array_name(key, split)
            if len(array) != len(part["image"]):
                raise InputError(
                    f"{where}: {name} has {len(array):,} rows and {array_name('image', split)} has "
                    f"{len(part['image']):,}: each image needs one."
                )
            if (array.shape[1:], array.dtype) != (first.shape[1:], first.dtype):
                raise InputError(
                    f"{where}: {name} is {described(array)} and {array_name(key, 'train')} {described(first)}: all "
                    "splits need one size and one type."
                )
    for key, look in (("boxes", _look_at_boxes), ("segmentation_mask", _look_at_mask)):
        if key in keys:
            for split, part in parts.items():
                look(part[key], part["image"], f"{where}: {array_name(key, split)}")
    _look_at_pixels({split: part["image"] for split, part in parts.items()}, where)
    if "label" not in keys:
        return parts, ()
    return parts, _class_names({split: part["label"] for split, part in parts.items()}, classes, where)


def _look_at_boxes(boxes: np.ndarray, image: np.ndarray, name: str) -> None:
    """Raises InputError unless boxes are [n, M, 4] in [0, 1]."""
    del image
    if boxes.ndim != 3 or boxes.shape[2] != 4 or boxes.dtype.kind != "f":
        raise InputError(f"{name} is {described(boxes)}: it needs floats [n, M, 4], (ymin, xmin, ymax, xmax).")
    if boxes.size and not 0 <= boxes.min() <= boxes.max() <= 1:
        raise InputError(
            f"{name} reaches from {boxes.min():g} to {boxes.max():g}: boxes are shares of height and width, 0 to 1. "
            "Divide pixels by the image's size."
        )


def _look_at_mask(mask: np.ndarray, image: np.ndarray, name: str) -> None:
    """Raises InputError unless a mask has a whole number for each pixel."""
    size = image.shape[1:3]
    if mask.shape[1:] not in (size, (*size, 1)) or mask.dtype.kind not in "biu":
        raise InputError(
            f"{name} is {described(mask)}: it needs the class of each pixel, integers [n, {size[0]}, {size[1]}]."
        )


def _image(x: np.ndarray, name: str) -> np.ndarray:
    """Images [n, H, W, C], uint8 or float32."""
    if x.ndim not in (3, 4):
        raise InputError(f"{name} is {described(x)}: images are [N, H, W, C], or [N, H, W] without channels.")
    bare = name.rpartition(" ")[2]
    if x.dtype.kind in "iu" and x.dtype != np.uint8:
        low, high = (int(x.min()), int(x.max())) if x.size else (0, 0)
        if 0 <= low <= high <= 255:
            advice = f'{bare}.astype("uint8")'
        else:  # what the largest could be, a file does not say
            advice = f'({bare} / {max(abs(low), high)}).astype("float32")'
        raise InputError(f"{name} is {described(x)}: images are uint8 in [0, 255] or float. Store `{advice}`.")
    if x.dtype.kind == "b":
        raise InputError(f'{name} is {described(x)}: images are uint8 or float. Store `{bare}.astype("float32")`.')
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise InputError(f"{name} is {described(x)}: images are uint8 in [0, 255] or float.")
    x = x if x.ndim == 4 else x[..., None]
    _, height, width, channels = x.shape
    if height in (1, 3) and min(width, channels) > 4:
        warnings.warn(
            f"{name} is {described(x)}: images {height} pixels high with {channels} channels? If they are "
            f"[N, C, H, W], store `{bare}.transpose(0, 2, 3, 1)`.",
            stacklevel=2,
        )
    return _finite(x, name) if x.dtype.kind == "f" else x


def _any(array: np.ndarray, name: str) -> np.ndarray:
    """Numbers [n, ...] in a type that devices take."""
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise InputError(f"{name} is {described(array)}: it needs a number or more for each image.")
    if array.dtype.kind == "f":
        return _finite(array, name)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        if not fits_int32(array):
            raise InputError(f"{name} is {described(array)} and reaches beyond int32, which is what devices take.")
        return array.astype(np.int32)
    return array


def _finite(array: np.ndarray, name: str) -> np.ndarray:
    """In float32, once no value is NaN or infinite there."""
    with np.errstate(over="ignore"):
        single = array.astype(np.float32, copy=False)
    if single.size and not np.isfinite([single.min(), single.max()]).all():
        bad = np.flatnonzero(~np.isfinite(single).reshape(len(single), -1).all(1))
        raise InputError(f"{name} holds NaN or infinite values in {len(bad):,} rows, the first is number {bad[0]}.")
    return single


def _label(y: np.ndarray, name: str) -> np.ndarray:
    """Labels int32: [n], or [n, K] of 0 and 1 where an image may have several."""
    bare = name.rpartition(" ")[2]
    whole = "labels are whole numbers from 0, [N], or 0 and 1 for each class, [N, K]"
    if y.dtype.kind in "USO":
        advice = f"{bare} = np.searchsorted(classes, {bare})"  # by train's numbers
        if bare == array_name("label", "train"):
            advice = f"classes, {bare} = np.unique({bare}, return_inverse=True)"
        raise InputError(f"{name} holds text: {whole}. Store `{advice}`, and `classes`.")
    if y.dtype.kind not in "biuf" or y.ndim not in (1, 2):
        hint = ""
        if y.ndim == 3:
            hint = f" What lies on the images goes by another name, such as {bare.replace('y_', 'segmentation_mask_')}."
        raise InputError(f"{name} is {described(y)}: {whole}.{hint}")
    binary = y.ndim == 2 and bool(np.isin(y, (0, 1)).all())
    if y.ndim == 2 and y.shape[1] == 1:
        raise InputError(f"{name} is {described(y)}: {whole}. Store `{bare}[:, 0]`.")
    if y.dtype.kind == "f":
        if y.ndim == 1:
            fits = bool((y == np.floor(y)).all())
            advice = f'Store `{bare}.astype("int32")`.' if fits else f"The first is {y[y != np.floor(y)][0]}."
        elif binary:
            advice = f'Store `{bare}.argmax(1)` if each image has one, `{bare}.astype("uint8")` if it may have several.'
        else:
            advice = f"Shares of classes are no labels; the most likely are `{bare}.argmax(1)`."
        raise InputError(f"{name} is {described(y)}: {whole}. {advice}")
    if y.ndim == 2 and not binary:
        raise InputError(f"{name} is {described(y)} and reaches from {y.min()} to {y.max()}: {whole}.")
    if not fits_int32(y):
        raise InputError(f"{name} reaches from {y.min()} to {y.max()}: {whole}.")
    return y.astype(np.int32)


def _class_names(labels: Mapping[str, np.ndarray], classes: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """The names of the classes, once the labels of the splits fit them and each other."""
    train = labels["train"]
    if train.ndim == 1:
        seen = {split: np.unique(y) for split, y in labels.items()}
        if classes is None:
            _look_at_numbers(seen, where)
            return tuple(map(str, seen["train"]))
        for split, found in seen.items():
            if found.size and not 0 <= found[0] <= found[-1] < len(classes):
                raise InputError(
                    f"{where}: {array_name('label', split)} reaches from {found[0]} to {found[-1]}; {len(classes)} "
                    f"classes allow 0 to {len(classes) - 1}."
                )
    else:
        if len(train) and all((y.sum(1) == 1).all() for y in labels.values()):
            raise InputError(
                f"{where}: {array_name('label', 'train')} is {described(train)} with a single 1 in each row, one-hot: "
                f"store `{array_name('label', 'train')}.argmax(1)`. [N, K] is for images that may have several labels."
            )
        if classes is not None and len(classes) != train.shape[1]:
            raise InputError(
                f"{where}: {array_name('label', 'train')} has a column for {train.shape[1]} classes, and there are "
                f"{len(classes)} names."
            )
        classes = list(map(str, range(train.shape[1]))) if classes is None else classes
        seen = {split: np.flatnonzero(y.any(0)) for split, y in labels.items()}
    for split, found in seen.items():
        if found.size and seen["train"].size and not np.isin(found, seen["train"]).any():
            raise InputError(
                f"{where}: {array_name('label', split)} holds no class that {array_name('label', 'train')} holds: "
                f"{some(found)}, there {some(seen['train'])}. Nothing of it can be learned."
            )
    return tuple(classes)


def _look_at_numbers(seen: Mapping[str, np.ndarray], where: str) -> None:
    """Raises InputError unless the labels of train, by nobody named, are 0 to K - 1, and the others are among them."""
    train, ours = seen["train"], array_name("label", "train")
    for split, found in seen.items():
        if len(new := np.setdiff1d(found, train)):
            raise InputError(
                f"{where}: {array_name('label', split)} has {some(new)}, of which {ours} has no example (it has "
                f"{some(train)}): that cannot be learned. Leave such images out, or name all classes in `classes`."
            )
    if not np.array_equal(train, np.arange(len(train))):
        others = [array_name("label", split) for split in seen if split != "train"]
        also = "".join(f"; {name} = np.searchsorted(numbers, {name})" for name in others)
        raise InputError(
            f"{where}: {ours} numbers its classes {some(train)}; they count from 0 without gaps. Store "
            f"`numbers, {ours} = np.unique({ours}, return_inverse=True){also}`, or name all classes in `classes`."
        )


def _look_at_pixels(images: Mapping[str, np.ndarray], where: str) -> None:
    """Raises InputError for a pixel beside which all others are as nothing: standardised, these are one grey.

    In train that is one of an image whose largest value is `FAR` times that of most, if such images are few and make
    the deviation of all pixels `SWAMPED` times what it is without them; in another split, `FAR` times the largest of
    train.
    """
    if images["train"].dtype == np.uint8:
        return
    reach = {split: np.maximum(x.max((1, 2, 3)), -x.min((1, 2, 3))) for split, x in images.items() if x.size}
    train = reach.get("train", np.zeros(0))
    if not train.any():
        return
    typical = np.median(train[train > 0])
    usual = train <= FAR * typical
    allowed = dict.fromkeys(reach, FAR * train[usual].max())
    if RARE * len(usual) <= usual.sum() < len(usual):
        (_, of_all), (_, of_usual) = moments(images["train"]), moments(images["train"][usual])
        swamped = (of_all > SWAMPED * of_usual).any()
        allowed["train"] = FAR * typical if swamped else np.inf
    for split, found in reach.items():
        if (far := np.flatnonzero(found > allowed[split])).size:
            raise InputError(
                f"{where}: {array_name('image', split)}[{far[0]}] has a pixel of size {found[far[0]]:.3g}, most images "
                f"of train reach to {typical:.3g}: beside it they are one grey. Mend or clip it ({len(far)} of these)."
            )


def some(values: Sequence) -> str:
    """The first few, for a message."""
    return ", ".join(map(str, values[:6])) + (f", ... ({len(values)} in all)" if len(values) > 6 else "")


def check_classes(label: np.ndarray, classes: int) -> None:
    """Raises InputError where labels [N] are not among the classes 0 to classes - 1 that a network tells apart."""
    if label.ndim == 1 and label.dtype.kind in "iu" and not 0 <= label.min() <= label.max() < classes:
        raise InputError(
            f"Labels reach from {label.min()} to {label.max()}; the network tells {classes} classes apart, 0 to "
            f"{classes - 1}, and the loss is not finite. Number the labels from 0, or give the network more classes; "
            "if the loss does not read them, training diverged."
        )


def look_for_classes(label: np.ndarray, splits: Mapping[str, np.ndarray], classes: Sequence[str], where: str) -> None:
    """Warns of classes without an example to train on, which are not learned.

    Args:
      label: [N] or [N, K], of all examples.
      splits: ids of each split, as it is used.
      classes: the names of the K classes.
      where: names the set, in the warning.
    """
    own = {split: label[ids] for split, ids in splits.items()}
    seen = {split: np.unique(y) if y.ndim == 1 else np.flatnonzero(y.any(0)) for split, y in own.items()}
    without = np.setdiff1d(np.arange(len(classes)), seen["train"])
    if len(own["train"]) and len(without):
        elsewhere = [array_name("label", split) for split, found in seen.items() if np.isin(without, found).any()]
        warnings.warn(
            f"{where}: {len(without)} of {len(classes)} classes without an example in train: "
            f"{some([f'{index} ({classes[index]})' for index in without])}. They are not learned"
            f"{f', and {chr(32).join(elsewhere)} has some of them' if elsewhere else ''}.",
            stacklevel=2,
        )
