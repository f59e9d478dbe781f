"""Which examples make which batch: a pure function of (seed, step), each example once per epoch and per pass."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrec.data.batches import PADDING, eval_batches, train_batches
from jaxrec.errors import InputError

examples = st.integers(1, 40)
batch_sizes = st.integers(1, 50)  # also larger than the set
seeds = st.integers(0, 2**32)


def arrays_of(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    image = rng.integers(0, 256, (count, 2, 2, 1), np.uint8)
    return {"image": image, "label": np.arange(count, dtype=np.int32)}


def batch_ids(batches, step: int) -> list[int]:
    return batches.host(step)["id"].tolist()


@pytest.mark.filterwarnings("ignore:batch_size")
@given(count=examples, batch_size=batch_sizes, seed=seeds, steps=st.lists(st.integers(0, 30), min_size=1))
def test_a_batch_is_the_same_whenever_it_is_asked_for(count, batch_size, seed, steps):
    def fresh():
        return train_batches(arrays_of(count), batch_size=batch_size, seed=seed)

    in_sequence = fresh()
    sequence = [batch_ids(in_sequence, step) for step in range(31)]
    jumping = fresh()
    for step in steps:
        assert batch_ids(jumping, step) == sequence[step] == batch_ids(fresh(), step)


@pytest.mark.filterwarnings("ignore:batch_size")
@given(count=examples, batch_size=batch_sizes, seed=seeds, data=st.data())
def test_each_epoch_holds_every_example_once(count, batch_size, seed, data):
    ids = np.array(data.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True)))
    batches = train_batches(arrays_of(count), batch_size=batch_size, seed=seed, ids=ids)
    epochs = 3
    steps = -(-epochs * len(ids) // batch_size)
    stream = list(itertools.chain.from_iterable(batch_ids(batches, step) for step in range(steps)))
    assert all(len(batch_ids(batches, step)) == batch_size for step in range(steps))
    numbers = [epoch for step in range(steps) for epoch in batches.host(step)["epoch"]]
    assert numbers == [position // len(ids) for position in range(steps * batch_size)]
    for epoch in range(epochs):
        assert sorted(stream[epoch * len(ids) : (epoch + 1) * len(ids)]) == sorted(ids)
    assert (batches.examples, batches.per_pass) == (len(ids), -(-len(ids) // batch_size))


@given(count=examples, batch_size=batch_sizes, data=st.data())
def test_an_evaluation_covers_every_example_once_and_pads_at_its_end(count, batch_size, data):
    ids = data.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True))
    batches = eval_batches(arrays_of(count), batch_size=batch_size, ids=np.array(ids))
    stream = list(itertools.chain.from_iterable(batch_ids(batches, step) for step in range(batches.per_pass)))
    padding = batches.per_pass * batch_size - len(ids)
    assert stream == ids + [PADDING] * padding
    assert 0 <= padding < batch_size


def test_seeds_and_epochs_have_orders_of_their_own():
    arrays = arrays_of(100)
    orders = [
        tuple(batch_ids(train_batches(arrays, batch_size=100, seed=seed), epoch))
        for seed, epoch in itertools.product(range(4), range(4))
    ]
    assert len(set(orders)) == len(orders)
    # The plain order among them would mean that nothing is shuffled.
    assert tuple(range(100)) not in orders


def test_every_example_comes_first_about_equally_often():
    batches = train_batches(arrays_of(4), batch_size=4, seed=1)
    first = np.bincount([batch_ids(batches, epoch)[0] for epoch in range(2000)], minlength=4)
    assert np.abs(first - 500).max() < 100  # five standard deviations


def test_all_examples_are_the_default():
    arrays = arrays_of(7)
    assert sorted(batch_ids(train_batches(arrays, batch_size=7), 0)) == list(range(7))
    assert batch_ids(eval_batches(arrays, batch_size=7), 0) == list(range(7))


@pytest.mark.parametrize("make", [train_batches, eval_batches])
def test_fetch_gathers_the_rows_inside_a_compiled_step(make):
    arrays = arrays_of(11)
    batches = make(arrays, batch_size=4, ids=np.array([10, 3, 7, 0, 5, 9]))
    fetch = jax.jit(batches.fetch)
    for step in range(batches.per_pass):
        rows = batches.host(step)
        batch = fetch(batches.resident, rows)
        real = rows["id"] != PADDING
        assert set(batch) - {"epoch"} == {"image", "label", "id", "mask", "seed"}
        assert (batch["image"].dtype, batch["label"].dtype) == (np.uint8, np.int32)
        np.testing.assert_array_equal(batch["mask"], real)
        np.testing.assert_array_equal(batch["id"], rows["id"])
        np.testing.assert_array_equal(batch["image"][real], arrays["image"][rows["id"][real]])
        np.testing.assert_array_equal(batch["label"][real], arrays["label"][rows["id"][real]])


def test_the_transform_runs_inside_fetch_on_the_whole_batch():
    def halve(batch):
        return {**batch, "image": batch["image"] // 2, "rows": batch["mask"].sum()}

    arrays = arrays_of(5)
    batches = eval_batches(arrays, batch_size=4, transform=halve)
    batch = jax.jit(batches.fetch)(batches.resident, batches.host(1))
    np.testing.assert_array_equal(batch["image"][0], arrays["image"][4] // 2)
    assert batch["rows"] == 1


def test_splits_with_one_transform_share_one_fetch():
    arrays = arrays_of(5)
    one, other = (eval_batches(arrays, batch_size=4, ids=np.array(ids)) for ids in ([0, 1], [2, 3, 4]))
    assert one.fetch is other.fetch


@pytest.mark.parametrize("make", [train_batches, eval_batches])
def test_what_makes_no_batches_is_refused(make):
    with pytest.raises(InputError, match="A split without examples") as caught:
        make(arrays_of(5), batch_size=2, ids=np.array([], np.int32))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="A split without examples"):
        make(arrays_of(0), batch_size=2)
    with pytest.raises(InputError, match=r"need one length, got \{'image': 3, 'label': 4\}"):
        make({"image": np.zeros((3, 2, 2, 1)), "label": np.zeros(4)}, batch_size=2)


def test_a_batch_larger_than_the_data_is_one_loud_line():
    with pytest.warns(UserWarning, match="batch_size = 5,000 is more than the 3 examples") as told:
        train_batches(arrays_of(9), batch_size=5000, ids=np.arange(3))
    assert (len(told), "\n" in str(told[0].message)) == (1, False)
    assert told[0].filename == __file__  # where the user called it
    train_batches(arrays_of(9), batch_size=9)
    eval_batches(arrays_of(9), batch_size=5000)  # one batch and padding: as it should be


@pytest.mark.parametrize("make", [train_batches, eval_batches])
@pytest.mark.parametrize(
    ("arrays", "batch_size", "said"),
    [
        ({}, 10**12, "batch_size = 1,000,000,000,000: a batch has from 1 to 2,147,483,647 rows"),
        ({}, 0, "batch_size = 0: a batch has from 1"),
        ({"mask": np.zeros(5)}, 2, r"arrays\['mask'\]: a batch says id, epoch, seed, mask of its rows itself"),
        ({"id": np.zeros(5)}, 2, r"arrays\['id'\]"),
        ({"epoch": np.zeros(5)}, 2, r"arrays\['epoch'\]"),
        ({"seed": np.zeros(5)}, 2, r"arrays\['seed'\].*such as 'own_seed'"),
        ({"label": np.array(list("abcde"))}, 2, r"arrays\['label'\] is <U1\[5\].*np.unique\(names, return_inverse"),
        ({"label": np.float32(3)}, 2, r"arrays\['label'\] is float32\[\]"),
        ({"label": np.full(5, 2**31)}, 2, r"arrays\['label'\] holds int64 beyond int32"),
    ],
)
def test_what_makes_no_batch_is_named(make, arrays, batch_size, said):
    with pytest.raises(InputError, match=said) as caught:
        make({**arrays_of(5), **arrays}, batch_size=batch_size)
    assert "\n" not in str(caught.value)


def test_lists_of_numbers_are_arrays():
    batches = eval_batches({"image": arrays_of(5)["image"], "label": [4, 3, 2, 1, 0]}, batch_size=5)
    np.testing.assert_array_equal(batches.fetch(batches.resident, batches.host(0))["label"], [4, 3, 2, 1, 0])


@pytest.mark.parametrize(
    "ids", [np.arange(6) < 3, np.array([0.2, 1.7]), np.array([[0, 1]])], ids=["mask", "float", "2-D"]
)
def test_ids_are_whole_numbers(ids):
    """A mask would be taken for the examples 0 and 1, again and again."""
    for make in (train_batches, eval_batches):
        with pytest.raises(InputError, match=r"ids is .*: whole numbers \[n\] are wanted; of a mask"):
            make({"image": np.zeros((6, 2))}, batch_size=2, ids=ids)
