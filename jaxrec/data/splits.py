"""Holding splits out of the training examples of a set that has none, and the folds of a cross-validation."""

from collections.abc import Mapping

import numpy as np

from jaxrec.errors import InputError

SPLITS = ("train", "validation", "test")
TEST_SHARE = 0.2  # held out as the test split where a set has none
OTHERWISE = {"test": " of your own", "validation": ", or change data.validation"}


def with_held_out(
    splits: Mapping[str, np.ndarray],
    label: np.ndarray | None,
    *,
    validation: float,
    split_seed: int,
    where: str,
) -> dict[str, np.ndarray]:
    """The splits, with those that are missing held out of train, each class in the same proportion.

    Args:
      splits: ids of what there is; train at least.
      label: [N] of all examples, or None.
      validation: share of train to hold out; 0 holds none out. A fifth is always held out for the test split.
      split_seed: which ones; those of the test split are always the same.
      where: what a message begins with.

    Raises:
      InputError: there are too few examples.
    """
    splits = dict(splits)
    for split, share, seed in (("test", TEST_SHARE, 0), ("validation", validation, split_seed)):
        if split not in splits and share:
            advice = f"Add examples, or a {split} split{OTHERWISE[split]}."
            splits["train"], splits[split] = _hold_out(splits["train"], label, share, seed, split, where, advice)
    return {split: splits[split] for split in SPLITS if split in splits}


def fold_splits(
    splits: Mapping[str, np.ndarray], label: np.ndarray | None, *, number: int, of: int, seed: int, where: str
) -> dict[str, np.ndarray]:
    """The splits of one run of a cross-validation: a fold of what was train and validation is its test split.

    Each of these examples is in one fold, each class in the same proportion, and the set's own test split is in no
    split at all. As large a share of the rest is held out for validation as before, if any, so that what chooses a
    state or ends a run does not see the fold.

    Args:
      splits: ids of the data as they are.
      label: [N] of all examples, or None.
      number: of the fold, from 0.
      of: how many folds there are.
      seed: of which examples are in which.
      where: what a message begins with.

    Raises:
      InputError: there is no such fold, or there are too few examples.
    """
    ids = np.sort(np.concatenate([splits[split] for split in SPLITS[:2] if split in splits]))
    if of > len(ids):
        raise InputError(f"{where}: {of:,} folds of {len(ids):,} examples leave some empty. Use fewer folds.")
    if number >= of:
        raise InputError(f"{where}: {of} folds are numbered 0 to {of - 1}, and this is number {number}.")
    drawn = np.random.default_rng(seed).permutation(ids)
    if label is not None:
        drawn = drawn[np.argsort(label[drawn], kind="stable")]  # each class in turn goes round the folds
    held = np.sort(drawn[number::of])
    parts = {"train": np.setdiff1d(ids, held).astype(held.dtype), "test": held}
    share = len(splits.get("validation", ())) / len(ids)
    return with_held_out(parts, label, validation=share, split_seed=seed, where=where)


def _hold_out(
    ids: np.ndarray, label: np.ndarray | None, share: float, seed: int, split: str, where: str, advice: str
) -> tuple[np.ndarray, np.ndarray]:
    """Splits ids into (kept, held out), each class in the same proportion where there are labels [N]."""
    from sklearn.model_selection import train_test_split  # takes a second to import

    own = None if label is None else label[ids]
    try:
        kept, held = train_test_split(ids, test_size=share, random_state=seed, stratify=own)
    except ValueError:
        _, counts = np.unique([] if own is None else own, return_counts=True)
        by_class = f" of {len(counts)} classes, {counts.min()} of the rarest," if len(counts) else ""
        raise InputError(
            f"{where}: {len(ids):,} training examples{by_class} are too few to hold {share:.0%} of them out as the "
            f"{split} split{', some of each class' * bool(len(counts))}. {advice}"
        ) from None
    return np.sort(kept), np.sort(held)
