"""What is computed from all predictions of a split, against scikit-learn on the whole arrays and by hand."""

import functools

import jax
import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sklearn

from jaxrec import metrics
from jaxrec.data.batches import eval_batches, train_batches
from jaxrec.engine import hooks
from jaxrec.engine.loop import Moment
from jaxrec.engine.program import compile_task
from jaxrec.errors import InputError
from jaxrec.sharding import data_parallel
from jaxrec.tasks.task import State, Task

# One program evaluates in many batch sizes here.
pytestmark = pytest.mark.filterwarnings("ignore:eval_step is compiled once more")

NUMBERS = {"precision_macro", "recall_macro", "f1_macro", "f1_micro", "f1_weighted", "auc", "ece"}


def random_split(examples: int = 200, classes: int = 7, present: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Logits that know something, and labels below `present`, not equally many of each."""
    rng = np.random.default_rng(0)
    label = (rng.random(examples) ** 2 * present).astype(np.int32)
    logits = rng.normal(0, 2, (examples, classes)) + 3 * np.eye(classes)[label]
    return logits.astype(np.float32), label


def part(logits: np.ndarray, label: np.ndarray, mask: np.ndarray | None = None) -> metrics.Metrics:
    mask = np.ones(len(label), bool) if mask is None else mask
    return metrics.predictions(np.asarray(logits, np.float32), {"label": np.asarray(label), "mask": mask})


def cut(logits: np.ndarray, label: np.ndarray, size: int) -> list[metrics.Metrics]:
    """The parts of batches of this size, the last one filled up with the worst that padding may hold."""
    parts = []
    for start in range(0, len(label), size):
        rows, own = logits[start : start + size], label[start : start + size]
        padding = size - len(own)
        mask = np.arange(size) < len(own)
        nan, impossible = np.full((padding, logits.shape[1]), np.nan), np.full(padding, 99)
        parts.append(part(np.concatenate([rows, nan]), np.concatenate([own, impossible]), mask))
    return parts


def expected(logits: np.ndarray, label: np.ndarray) -> dict[str, float | np.ndarray]:
    """The same by scikit-learn's functions, called on the whole arrays; the calibration error bin by bin."""
    classes = range(logits.shape[1])
    probabilities, predicted = special.softmax(logits.astype(np.float64), axis=-1), logits.argmax(-1)
    confidence, error = probabilities.max(-1), 0.0
    for low, high in zip(np.linspace(0, 1, 16)[:-1], np.linspace(0, 1, 16)[1:], strict=True):
        inside = (low < confidence) & (confidence <= high)
        if inside.any():
            gap = (predicted == label)[inside].mean() - confidence[inside].mean()
            error += inside.mean() * abs(gap)
    by_class = {"average": None, "labels": classes, "zero_division": 0}
    values = {
        "precision_macro": sklearn.precision_score(label, predicted, average="macro", zero_division=0),
        "recall_macro": sklearn.recall_score(label, predicted, average="macro", zero_division=0),
        "f1_macro": sklearn.f1_score(label, predicted, average="macro"),
        "f1_micro": sklearn.f1_score(label, predicted, average="micro"),
        "f1_weighted": sklearn.f1_score(label, predicted, average="weighted"),
        "ece": error,
        "top_5": sklearn.top_k_accuracy_score(label, logits, k=5, labels=classes),
        "confusion": sklearn.confusion_matrix(label, predicted, labels=classes),
        "per_class": np.stack(
            [
                *(score(label, predicted, **by_class) for score in (sklearn.precision_score, sklearn.recall_score)),
                sklearn.f1_score(label, predicted, **by_class),
                np.bincount(label, minlength=len(classes)),
            ],
            axis=-1,
        ),
    }
    if len(set(label)) == len(classes):
        values["auc"] = sklearn.roc_auc_score(label, probabilities, multi_class="ovr", average="macro")
    return values


def assert_equal(result: dict[str, float | np.ndarray], wanted: dict[str, float | np.ndarray]) -> None:
    assert all(
        isinstance(value, np.ndarray if name in ("confusion", "per_class") else float) for name, value in result.items()
    )
    for name, value in wanted.items():
        np.testing.assert_allclose(result[name], value, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("size", [1, 7, 64, 200, 256])
def test_parts_of_any_size_in_any_order_equal_scikit_learn_on_the_whole(size):
    logits, label = random_split()
    parts = cut(logits, label, size)
    wanted = expected(logits, label)
    assert 0.5 < wanted["f1_macro"] < wanted["f1_weighted"] < wanted["auc"] < 1  # else the rest says little
    result = metrics.compute(parts)
    assert 0 < wanted["ece"] < 0.5 < wanted["top_5"] < 1
    assert result.keys() == wanted.keys()
    assert_equal(result, wanted)
    assert_equal(metrics.compute(parts[::-1]), wanted)


def test_batches_of_one_class_each_make_no_difference():
    logits, label = random_split()
    parts = [part(logits[label == index], label[label == index]) for index in range(7)]
    assert_equal(metrics.compute(parts), expected(logits, label))


def test_classes_without_examples_count_where_they_are_predicted():
    logits, label = random_split(present=4)
    result = metrics.compute(cut(logits, label, 64))
    assert result["confusion"][:, 4:].any()
    assert_equal(result, expected(logits, label))
    # A class that no example has does not have both sides of a curve.
    areas = [sklearn.roc_auc_score(label == index, special.softmax(logits, axis=-1)[:, index]) for index in range(4)]
    np.testing.assert_allclose(result["auc"], np.mean(areas), rtol=1e-6)


def test_a_class_that_is_neither_label_nor_prediction_counts_nowhere():
    result = metrics.compute([part([[2, 1, 0], [0, 1, -1], [3, 0, 1]], [0, 1, 0])])
    assert result["f1_macro"] == result["precision_macro"] == result["recall_macro"] == result["auc"] == 1
    np.testing.assert_array_equal(result["per_class"], [[1, 1, 1, 2], [1, 1, 1, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(result["confusion"], [[2, 0, 0], [0, 1, 0], [0, 0, 0]])


def test_a_split_of_one_class_has_no_curve():
    logits, _ = random_split(examples=30)
    result = metrics.compute([part(logits, np.full(30, 2))])
    assert np.isnan(result["auc"])
    assert all(np.isfinite(result[name]) for name in NUMBERS - {"auc"})


@pytest.mark.parametrize(("classes", "there"), [(2, False), (5, False), (6, True)])
def test_top_5_is_asked_of_more_than_five_classes(classes, there):
    logits, label = random_split(classes=classes, present=classes)
    assert metrics.compute([part(logits, label)]).keys() == NUMBERS | {"confusion", "per_class"} | (
        {"top_5"} if there else set()
    )


def test_of_tied_logits_the_first_classes_are_predicted():
    result = metrics.compute([part(np.zeros((7, 7)), np.arange(7))])
    assert result["top_5"] == 5 / 7
    assert result["f1_micro"] == pytest.approx(1 / 7)
    assert result["auc"] == 0.5
    np.testing.assert_array_equal(result["confusion"], 1 * (np.arange(7) == 0)[None].repeat(7, axis=0))


def test_classes_differ_where_their_float32_probabilities_do_not():
    logits = np.array([[0, 1e-9, 0, 0, 0, 0, 0], [0, -200, -201, -202, -203, -204, -205]], np.float32)
    softmax = np.asarray(jax.nn.softmax(logits))
    assert softmax[0, 0] == softmax[0, 1]
    assert softmax[1, 4] == softmax[1, 5] == 0
    result = metrics.compute([part(logits, [1, 5])])
    assert result["confusion"][1, 1] == 1
    assert result["top_5"] == 0.5


def test_calibration_error_by_hand():
    # Confidence 0.9 twice, right once: |0.5 - 0.9|. Confidence 0.62 once, right: |1 - 0.62|. Weights 2/3 and 1/3.
    logits = np.log([[0.9, 0.1], [0.9, 0.1], [0.38, 0.62]])
    result = metrics.compute([part(logits, [0, 1, 1])])
    assert result["ece"] == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.38, abs=1e-6)


def test_a_bin_holds_its_upper_edge():
    # Three equal classes: 1/3 is the upper edge of bin 5 of 15; 0.34 is in bin 6, where it would be wrong to mix them.
    logits = np.log([[1 / 3, 1 / 3, 1 / 3], [0.34, 0.33, 0.33]])
    result = metrics.compute([part(logits, [0, 1])])
    assert result["ece"] == pytest.approx((abs(1 - 1 / 3) + 0.34) / 2, abs=1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [1, 200])
def test_a_network_that_has_diverged_is_not_right(rows, wrong):
    logits, label = random_split()
    logits[:rows, 0] = wrong
    result = metrics.compute(cut(logits, label, 64))
    assert all(np.isnan(result[name]) for name in NUMBERS | {"top_5"})
    assert result["confusion"].sum() == 200 - rows
    assert np.isnan(result["per_class"][:, :3]).all()
    np.testing.assert_array_equal(result["per_class"][:, 3], np.bincount(label, minlength=7))


@pytest.mark.parametrize("wrong", [-1, 7])
def test_a_label_that_no_class_has_is_refused(wrong):
    logits, label = random_split()
    label[5] = wrong
    reach = f"{min(wrong, 0)} to {max(wrong, 6)}"
    with pytest.raises(InputError, match=rf"^Labels reach from {reach}, and logits of 7 classes allow 0 to 6\.$"):
        metrics.compute(cut(logits, label, 64))


def test_half_precision_logits_are_taken():
    logits, label = random_split()
    half = jax.numpy.asarray(logits, jax.numpy.bfloat16)
    result = metrics.compute([part(half, label)])
    assert_equal(result, expected(np.asarray(half, np.float32), label))


def stored_logits() -> Task:
    """The task of a network whose logits are its images."""

    def init(key, batch):
        return State(jax.numpy.zeros((), jax.numpy.int32), {}, (), {})

    def measure(batch):
        logits = batch["image"].reshape(len(batch["label"]), -1)
        correct = (logits.argmax(-1) == batch["label"]).astype(np.float32)
        return {**metrics.means({"accuracy": correct}, batch["mask"]), **metrics.predictions(logits, batch)}

    return Task(init, lambda state, batch, key: (state, measure(batch)), lambda state, batch, key: measure(batch))


@functools.cache
def program_on(devices: int, parallel: str):
    logits, label = random_split()
    arrays = {"image": logits[:, None, None], "label": label}
    spread = data_parallel(jax.devices()[:devices], parallel=parallel)
    program = compile_task(stored_logits(), train_batches(arrays, batch_size=8), parallel=spread)
    return arrays, program, program.init()


@pytest.mark.parametrize(
    ("devices", "parallel", "size"),
    [(1, "jit", 1), (1, "jit", 7), (1, "jit", 200), (8, "jit", 8), (8, "jit", 208), (8, "pmap", 8), (8, "pmap", 208)],
)
def test_evaluation_on_any_devices_equals_scikit_learn(devices, parallel, size):
    arrays, program, state = program_on(devices, parallel)
    logits, label = random_split()
    result = program.evaluate(state, eval_batches(arrays, batch_size=size))
    assert_equal(result, {**expected(logits, label), "accuracy": (logits.argmax(-1) == label).mean()})
    assert result["f1_micro"] == pytest.approx(result["accuracy"], abs=1e-15)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_rows_of_several_devices_stay_in_the_order_of_the_batch(parallel):
    batch = {"id": np.arange(16), "mask": np.ones(16, bool), "label": np.arange(16)}
    spread = data_parallel(parallel=parallel).spread

    def step(state, batch, key):
        return metrics.predictions(batch["id"][:, None], batch)

    merged = jax.jit(spread(step))({}, batch, jax.random.key(0))[""]
    np.testing.assert_array_equal(merged.label, np.arange(16))
    np.testing.assert_array_equal(merged.logits[:, 0], np.arange(16))


def test_training_steps_may_return_them_as_well():
    _, program, state = program_on(1, "jit")
    _, result = program.train(state, 0, 25)  # an epoch
    assert_equal(result, expected(*random_split()))


def test_a_hook_puts_numbers_alone_into_the_scalars():
    arrays, program, state = program_on(1, "jit")
    split = eval_batches(arrays, batch_size=200)
    moment = Moment(1, 1, 0, state, 1, 1.0, functools.partial(program.evaluate, state), {"train/loss": 0.5}, [])
    hooks.evaluate(validation=split)(moment)
    assert moment.scalars.keys() == {"train/loss"} | {f"validation/{name}" for name in NUMBERS | {"top_5", "accuracy"}}
    assert all(type(value) is float for value in moment.scalars.values())
