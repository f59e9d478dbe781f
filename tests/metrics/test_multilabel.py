"""Several labels for each image: what is computed from all predictions, against scikit-learn on the whole arrays."""

import functools

import jax
import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sklearn

from jaxrec import metrics
from jaxrec.errors import InputError
from jaxrec.metrics import scores
from jaxrec.sharding import data_parallel

OVER = [f"{name}_{over}" for name in ("precision", "recall", "f1") for over in ("macro", "micro", "samples")]
NUMBERS = {"exact_match", "hamming_loss", *OVER, "mean_average_precision", "auc"}


def random_table(
    examples: int = 120, classes: int = 5, share: float = 0.3, digits: int = 6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits that know something, equal ones where they have few digits; some examples have no label at all."""
    rng = np.random.default_rng(seed)
    label = (rng.random((examples, classes)) < share * rng.random(classes) * 2).astype(np.int32)
    logits = rng.normal(0, 1.5, (examples, classes)) + 2 * label - 1
    return logits.round(digits).astype(np.float32), label


def part(logits: np.ndarray, label: np.ndarray, mask: np.ndarray | None = None, **arguments) -> metrics.Metrics:
    mask = np.ones(len(label), bool) if mask is None else mask
    return metrics.multilabel_predictions(np.asarray(logits), {"label": label, "mask": mask}, **arguments)


def cut(logits: np.ndarray, label: np.ndarray, size: int, **arguments) -> list[metrics.Metrics]:
    """The parts of batches of this size, the last one filled up with the worst that padding may hold."""
    parts = []
    for start in range(0, len(label), size):
        rows, own = logits[start : start + size], label[start : start + size]
        mask, padding = np.arange(size) < len(own), ((0, size - len(own)), (0, 0))
        rows = np.pad(rows, padding, constant_values=np.nan)
        parts.append(part(rows, np.pad(own, padding, constant_values=-7), mask, **arguments))
    return parts


def expected(logits: np.ndarray, label: np.ndarray, threshold: float = 0.5) -> dict[str, float | np.ndarray]:
    """The same by scikit-learn's functions, called on the whole arrays."""
    predicted = (logits > np.float32(special.logit(threshold))).astype(int)
    functions = {name: getattr(sklearn, f"{name}_score") for name in ("precision", "recall", "f1")}

    def score(name: str, average: str | None) -> float | np.ndarray:
        return functions[name](label, predicted, average=average, zero_division=0)

    some, both = label.any(0), label.any(0) & ~label.all(0)
    by_class = [
        sklearn.average_precision_score(label[:, k], logits[:, k]) if some[k] else np.nan for k in range(len(some))
    ]
    areas = [sklearn.roc_auc_score(label[:, k], logits[:, k]) for k in np.flatnonzero(both)]
    return {
        "exact_match": sklearn.accuracy_score(label, predicted),
        "hamming_loss": sklearn.hamming_loss(label, predicted),
        **{f"{name}_{over}": score(name, over) for name in functions for over in ("macro", "micro", "samples")},
        "mean_average_precision": np.nanmean(by_class) if some.any() else np.nan,
        "auc": np.mean(areas) if areas else np.nan,
        "per_class": np.stack([*(score(name, None) for name in functions), label.sum(0), by_class], axis=-1),
    }


def assert_equal(result: dict[str, float | np.ndarray], wanted: dict[str, float | np.ndarray]) -> None:
    assert result.keys() == wanted.keys() == NUMBERS | {"per_class"}
    for name, value in wanted.items():
        assert type(result[name]) is (np.ndarray if name == "per_class" else float)
        np.testing.assert_allclose(result[name], value, rtol=1e-12, atol=1e-15, err_msg=name)


@pytest.mark.parametrize("size", [1, 7, 64, 120, 128])
def test_parts_of_any_size_in_any_order_equal_scikit_learn_on_the_whole(size):
    logits, label = random_table()
    wanted = expected(logits, label)
    assert (
        0.1 < wanted["exact_match"] < wanted["f1_samples"] < wanted["f1_macro"] < wanted["auc"] < 1
    )  # all of them tell
    assert 0 < wanted["hamming_loss"] < 0.5 < wanted["mean_average_precision"] < 1
    parts = cut(logits, label, size)
    assert_equal(metrics.compute(parts), wanted)
    assert_equal(metrics.compute(parts[::-1]), wanted)


@pytest.mark.parametrize("seed", range(20))
def test_small_tables_of_all_kinds_equal_scikit_learns(seed):
    """Ties, classes without examples or with nothing else, examples without labels or predictions."""
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(1, 12)), int(rng.integers(2, 6))
    logits, label = random_table(*shape, share=rng.random(), digits=int(rng.integers(0, 2)), seed=seed)
    assert_equal(metrics.compute([part(logits, label)]), expected(logits, label))


def test_the_table_by_hand():
    logits = np.array([[1, 1, -1], [2, -1, -1], [-1, 1, -1]], np.float32)
    label = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]])
    result = metrics.compute([part(logits, label)])
    assert result["exact_match"] == 1 / 3
    assert result["hamming_loss"] == 2 / 9
    # Of the second class, the one that is not has the highest logit, along with one that is.
    rows = [[1, 1, 1, 2, 1], [0.5, 0.5, 0.5, 2, (1 / 2 + 2 / 3) / 2], [0, 0, 0, 0, np.nan]]
    np.testing.assert_allclose(result["per_class"], rows, rtol=1e-15)
    np.testing.assert_allclose(result["auc"], (1 + 0.25) / 2, rtol=1e-15)
    np.testing.assert_allclose(result["f1_samples"], (2 / 3 + 2 / 3 + 1) / 3, rtol=1e-15)
    assert (result["f1_macro"], result["f1_micro"]) == (0.5, 0.75)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_a_class_is_predicted_above_the_threshold(threshold):
    logits, label = random_table()
    assert_equal(metrics.compute(cut(logits, label, 50, threshold=threshold)), expected(logits, label, threshold))


@pytest.mark.parametrize("threshold", [0, 1, -0.5, 50, np.nan])
def test_a_threshold_is_a_probability(threshold):
    with pytest.raises(InputError, match=f"^threshold = {threshold}: a probability above 0 and below 1"):
        part(*random_table(), threshold=threshold)


def test_a_half_is_not_above_a_half_and_large_logits_differ():
    logits, label = np.array([[0, 50], [0, 60], [1, 70]], np.float32), np.array([[0, 0], [0, 1], [1, 1]])
    assert special.expit(np.float64(50)) == special.expit(np.float64(60)) == 1
    result = metrics.compute([part(logits, label)])
    assert result["auc"] == result["mean_average_precision"] == 1
    assert result["per_class"][0].tolist() == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_network_that_has_diverged_is_not_right(wrong):
    logits, label = random_table()
    logits[3, 1] = wrong
    result = metrics.compute(cut(logits, label, 50))
    assert all(np.isnan(result[name]) for name in NUMBERS)
    np.testing.assert_array_equal(result["per_class"][:, 3], label.sum(0))
    assert np.isnan(result["per_class"][:, [0, 1, 2, 4]]).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_labels_and_logits_may_be_of_any_number_type(dtype):
    logits, label = random_table()
    half = jax.numpy.asarray(logits, jax.numpy.bfloat16)
    assert_equal(metrics.compute([part(half, label.astype(dtype))]), expected(np.asarray(half, np.float32), label))


@pytest.mark.parametrize("wrong", [2, -1])
def test_a_label_that_is_neither_0_nor_1_is_refused(wrong):
    logits, label = random_table()
    label[3, 1] = wrong
    with pytest.raises(InputError, match=rf"^Labels are 0 \(absent\) or 1 \(present\); one is {wrong}\."):
        metrics.compute(cut(logits, label, 50))


def test_labels_of_another_shape_are_refused_with_the_statistics_for_them():
    logits, label = random_table()
    with pytest.raises(InputError, match=r"\[120, 5\]; the batch's 'label' is int32\[120\]. .* metrics.predictions"):
        part(logits, label[:, 0])
    with pytest.raises(
        InputError, match=r"\[120\]; the batch's 'label' is int32\[120, 5\]. .* metrics.multilabel_pred"
    ):
        metrics.predictions(logits, {"label": label, "mask": np.ones(120, bool)})


@functools.cache
def step_on(parallel: str):
    def step(state, batch, key):
        logits = batch["image"]
        ranked = metrics.Mean(logits.sum(0), jax.numpy.float32(len(logits)))  # an array beside them
        return {**metrics.multilabel_predictions(logits, batch), "mean_logit": ranked}

    return jax.jit(data_parallel(parallel=parallel).spread(step))


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_eight_devices_equal_scikit_learn(parallel):
    logits, label = random_table()
    parts = []
    for rows in np.split(np.arange(120), [40, 80]):
        batch = {"image": logits[rows], "label": label[rows], "mask": np.arange(40) != 39}
        parts.append(step_on(parallel)({}, batch, jax.random.key(0)))
    kept = np.arange(120) % 40 != 39
    np.testing.assert_array_equal(parts[1][""].logits, logits[40:80])  # in the order of the batch
    result = metrics.compute(parts)
    np.testing.assert_allclose(result.pop("mean_logit"), logits.mean(0), rtol=1e-4, atol=1e-6)
    assert_equal(result, expected(logits[kept], label[kept]))


@pytest.mark.parametrize("inside", [0, 9])
def test_a_class_without_both_sides_has_no_area(inside):
    members = np.arange(9) < inside
    (ranking,) = scores.rankings(np.arange(9.0)[:, None], [members])
    assert np.isnan(scores.area_under_roc(ranking))
    assert scores.average_precision(ranking) == pytest.approx(1 if inside else np.nan, nan_ok=True)
    assert np.isnan(scores.mean_of_known([np.nan, np.nan]))
