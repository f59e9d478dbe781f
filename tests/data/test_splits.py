"""Folds of a cross-validation: what is held out, once each, and what no run sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrec.data.splits import fold_splits
from jaxrec.errors import InputError


def splits_of(train: int, validation: int, test: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(0).permutation(train + validation + test)
    parts = np.split(ids, [train, train + validation])
    return {name: np.sort(part) for name, part in zip(("train", "validation", "test"), parts, strict=True)}


@given(of=st.integers(2, 7), seed=st.integers(0, 5), validation=st.sampled_from([0, 20]), labelled=st.booleans())
def test_each_example_is_held_out_once_and_the_test_split_of_the_set_by_none(of, seed, validation, labelled):
    splits = splits_of(150, validation, 30)
    splits = splits if validation else {name: ids for name, ids in splits.items() if name != "validation"}
    label = np.random.default_rng(seed).choice(3, 200, p=(0.6, 0.3, 0.1)) if labelled else None
    folds = [fold_splits(splits, label, number=number, of=of, seed=seed, where="here") for number in range(of)]
    learned = np.sort(np.concatenate([splits["train"], splits.get("validation", np.zeros(0, int))]))
    np.testing.assert_array_equal(np.sort(np.concatenate([fold["test"] for fold in folds])), learned)
    sizes = [len(fold["test"]) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for fold in folds:  # nothing is in two splits, and what is not held out is learned or chooses
        np.testing.assert_array_equal(np.sort(np.concatenate(list(fold.values()))), learned)
        share = len(fold["validation"]) / (len(learned) - len(fold["test"])) if validation else 0
        assert share == pytest.approx(validation / len(learned), abs=0.01)
        assert ("validation" in fold) == bool(validation)
    if labelled:
        counts = np.array([np.bincount(label[fold["test"]], minlength=3) for fold in folds])
        assert np.ptp(counts, axis=0).max() <= 1


def test_another_seed_draws_other_folds_and_the_same_one_the_same():
    def drawn(seed: int) -> np.ndarray:
        return fold_splits(splits_of(100, 10, 10), None, number=1, of=4, seed=seed, where="here")["test"]

    np.testing.assert_array_equal(drawn(3), drawn(3))
    assert not np.array_equal(drawn(3), drawn(4))


@pytest.mark.parametrize(
    ("number", "of", "said"), [(0, 111, "111 folds of 110 examples"), (4, 4, "numbered 0 to 3, and this is number 4")]
)
def test_folds_that_cannot_be_are_refused(number, of, said):
    with pytest.raises(InputError, match=said):
        fold_splits(splits_of(100, 10, 10), None, number=number, of=of, seed=0, where="config.fold")
