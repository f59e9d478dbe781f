"""The images of the speed benchmark: the real sets where they are prepared, and digits of their shape elsewhere."""

import numpy as np

from jaxrec.data import sources
from jaxrec.errors import InputError


def digits(shape: tuple[int, int, int], examples: int | None = None) -> dict[str, np.ndarray]:
    """scikit-learn's digits enlarged to the shape, and repeated up to `examples`."""
    data = sources.digits()
    rows = np.arange(examples or len(data.label)) % len(data.label)
    image = data.image.repeat(-(-shape[0] // 8), 1).repeat(-(-shape[1] // 8), 2)[:, : shape[0], : shape[1]]
    return {"image": np.broadcast_to(image, (len(image), *shape))[rows], "label": data.label[rows]}


def load(name: str, shape: tuple[int, int, int]) -> tuple[dict[str, np.ndarray], str]:
    """The training images of a data set, and in words what they are."""
    try:
        data = sources.tfds(dataset=name, validation=0)
    except InputError:
        arrays = digits(shape)
        words = f"scikit-learn's digits enlarged to {'x'.join(map(str, shape))}, since {name} is not prepared here"
    else:
        rows = data.splits["train"]
        arrays, words = {"image": data.image[rows], "label": data.label[rows]}, f"{name}'s training images"
    return arrays, f"{words} ({len(arrays['label']):,})"
