"""Pictures that are in two splits, or under two labels: an evaluation on them measures memory."""

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

NEAR = 3  # bits of 64 in which the difference hashes of two forms of one picture differ at most
ROWS = 2**22  # comparisons at a time


def same_in_two_splits(
    content: np.ndarray, splits: Mapping[str, np.ndarray], name: Callable[[int], str]
) -> Iterator[str]:
    """Yields a line for two splits that share pictures.

    Args:
      content: uint64 [N], a hash of each file's content.
      splits: ids of each split.
      name: of an example.
    """
    for (one, ids), (other, others) in itertools.combinations(splits.items(), 2):
        both = np.isin(content[others], content[ids])
        if both.any():
            second = others[np.flatnonzero(both)[0]]
            first = ids[np.flatnonzero(content[ids] == content[second])[0]]
            yield _line(both, other, one, "the same pictures", name(second), name(first))


def near_in_two_splits(
    image: np.ndarray, content: np.ndarray, splits: Mapping[str, np.ndarray], name: Callable[[int], str]
) -> Iterator[str]:
    """Yields a line for two splits that share nearly equal pictures; what is the same to the byte is not counted.

    Args:
      image: uint8 [N, H, W, C].
      content: as in `same_in_two_splits`, and so are the others.
      splits: likewise.
      name: likewise.
    """
    look = difference_hash(image)
    for (one, ids), (other, others) in itertools.combinations(splits.items(), 2):
        ours, places = np.unique(look[ids], return_index=True)
        theirs, where = np.unique(look[others], return_inverse=True)
        nearest = np.full(len(theirs), -1)
        step = max(1, ROWS // len(ours))
        for start in range(0, len(theirs), step):
            apart = np.bitwise_count(theirs[start : start + step, None] ^ ours[None])  # [rows, columns]
            column = apart.argmin(1)
            close = np.take_along_axis(apart, column[:, None], 1)[:, 0] <= NEAR
            nearest[start : start + step] = np.where(close, ids[places[column]], -1)
        found = nearest[where]
        found[np.isin(content[others], content[ids])] = -1
        if (found >= 0).any():
            first = np.flatnonzero(found >= 0)[0]
            yield _line(found >= 0, other, one, "nearly the same", name(others[first]), name(found[first]))


def under_two_labels(content: np.ndarray, label: np.ndarray, name: Callable[[int], str]) -> Iterator[str]:
    """Yields a line where one picture has two labels.

    Args:
      content: uint64 [N], a hash of each file's content.
      label: [N].
      name: of an example.
    """
    order = np.lexsort((label, content))
    same = content[order][1:] == content[order][:-1]
    torn = np.flatnonzero(same & (label[order][1:] != label[order][:-1]))
    if len(torn):
        one, other = name(order[torn[0]]), name(order[torn[0] + 1])
        yield f"{len(torn):,} of {len(label):,} pictures have two labels, such as {one}, which is {other} as well."


def difference_hash(image: np.ndarray) -> np.ndarray:
    """The 64 bits of which of two neighbours is lighter, where a picture is shrunk to 8 rows of 9 shades of grey.

    Args:
      image: uint8 [N, H, W, C].

    Returns:
      uint64 [N]; few bits differ where pictures differ in size, compression or brightness.
    """
    from PIL import Image

    grey = image[..., 0] if image.shape[-1] == 1 else np.round(image.mean(-1, dtype=np.float32)).astype(np.uint8)
    small = [np.asarray(Image.fromarray(one).resize((9, 8), Image.Resampling.BOX)) for one in grey]
    rows = np.reshape(small, (-1, 8, 9))
    bits = (rows[:, :, 1:] > rows[:, :, :-1]).reshape(-1, 64)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def _line(shared: np.ndarray, other: str, one: str, how: str, second: str, first: str) -> str:
    return (
        f"{shared.sum():,} of {len(shared):,} pictures of {other} are in {one} as well ({how}), such as {second} and "
        f"{first}: what is measured on them is memory. Take them out of one of both."
    )
