"""Each loss against numpy: values, gradients, mixed examples, limits, per-example shape."""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sklearn_metrics

from jaxrec import losses
from jaxrec.errors import InputError

# The references take targets [B, K]; `targets` makes them.


def targets(batch: dict[str, np.ndarray], classes: int, label_smoothing: float = 0.0) -> np.ndarray:
    rows = np.zeros((len(batch["label"]), classes))
    for row, example in zip(rows, zip(*batch.values(), strict=True), strict=True):
        label, other, share = (*example, 0, 1.0)[:3]
        row[label] += share
        row[other] += 1 - share
    return rows * (1 - label_smoothing) + label_smoothing / classes


def numpy_cross_entropy(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    return -(target * special.log_softmax(logits, axis=-1)).sum(-1)


def numpy_binary_cross_entropy(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    p = special.expit(logits)
    return -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum(-1)


def numpy_focal(logits: np.ndarray, target: np.ndarray, gamma: float = 2.0) -> np.ndarray:
    p = special.softmax(logits, axis=-1)
    return -(target * (1 - p) ** gamma * np.log(p)).sum(-1)


def numpy_hinge(logits: np.ndarray, target: np.ndarray, margin: float = 1.0) -> np.ndarray:
    loss = np.zeros(len(logits))
    for example, label in np.ndindex(*logits.shape):
        others = np.delete(logits[example], label)
        loss[example] += target[example, label] * max(0, margin + others.max() - logits[example, label])
    return loss


def numpy_squared_error(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    return ((logits - target) ** 2).mean(-1)


# name of the loss -> [(its arguments, the same in numpy)]
REFERENCES = {
    "softmax_cross_entropy": [
        ({}, numpy_cross_entropy),
        ({"label_smoothing": 0.1}, numpy_cross_entropy),
        ({"label_smoothing": 0.9}, numpy_cross_entropy),
    ],
    "sigmoid_cross_entropy": [
        ({}, numpy_binary_cross_entropy),
        ({"label_smoothing": 0.1}, numpy_binary_cross_entropy),
    ],
    "focal": [
        ({}, numpy_focal),
        ({"gamma": 0.5, "label_smoothing": 0.1}, functools.partial(numpy_focal, gamma=0.5)),
    ],
    "hinge": [({}, numpy_hinge), ({"margin": 3.0}, functools.partial(numpy_hinge, margin=3.0))],
    "mean_squared_error": [({}, numpy_squared_error)],
}

MIXED = {"other_label": np.array([1, 0, 2, 3, 3, 0]), "share": np.array([0.75, 0.5, 0.1, 1.0, 0.3, 0.0])}

CASES = [
    pytest.param(functools.partial(getattr(losses, name), **arguments), reference, mixed, id=f"{name}-{arguments}{how}")
    for name, cases in REFERENCES.items()
    for arguments, reference in cases
    for how, mixed in (("", {}), ("-mixed", MIXED))
]


def random_batch(mixed=None, examples: int = 6, classes: int = 4) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (examples, classes)).astype(np.float32)
    return logits, {"label": rng.integers(0, classes, examples), **(mixed or {})}


def test_every_loss_has_a_reference():
    public = {
        name
        for name, value in vars(losses.recognition).items()
        if inspect.isfunction(value) and value.__module__ == losses.recognition.__name__ and not name.startswith("_")
    }
    assert public == set(losses.__all__) == {*REFERENCES, "binary_cross_entropy"}  # which has tests of its own, below


def as_jax(batch):
    return {name: jnp.asarray(value) for name, value in batch.items()}


@pytest.mark.parametrize(("loss", "reference", "mixed"), CASES)
def test_values_per_example(loss, reference, mixed):
    logits, batch = random_batch(mixed)
    values = loss(logits, as_jax(batch))
    target = targets(batch, 4, loss.keywords.get("label_smoothing", 0.0))
    assert {name: value.shape for name, value in values.items()} == {"loss": (6,), "accuracy": (6,)}
    # Of a value near 0 what rounding leaves is a share of the logits, which are near 3.
    np.testing.assert_allclose(values["loss"], reference(logits.astype(np.float64), target), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(values["accuracy"], logits.argmax(-1) == batch["label"])
    assert 0 < values["accuracy"].mean() < 1  # else the line above says little


@pytest.mark.parametrize(("loss", "reference", "mixed"), CASES)
def test_gradient_equals_finite_differences(loss, reference, mixed):
    logits, batch = random_batch(mixed)
    gradient = jax.grad(lambda logits: loss(logits, as_jax(batch))["loss"].sum())(logits)
    # Differences of the numpy reference in float64: those of the loss itself would be lost in float32.
    target = targets(batch, 4, loss.keywords.get("label_smoothing", 0.0))
    step, expected = 1e-6, np.zeros(logits.shape)
    for position in np.ndindex(*logits.shape):
        shifted = np.zeros(logits.shape)
        shifted[position] = step
        above, below = (reference(logits + sign * shifted, target).sum() for sign in (1, -1))
        expected[position] = (above - below) / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", REFERENCES)
def test_an_example_mixed_with_a_share_of_1_is_unmixed(name):
    logits, batch = random_batch()
    mixed = {**batch, "other_label": (batch["label"] + 1) % 4, "share": np.ones(6, np.float32)}
    loss = getattr(losses, name)
    jax.tree.map(np.testing.assert_array_equal, loss(logits, mixed), loss(logits, batch))


@pytest.mark.parametrize("name", REFERENCES)
def test_a_share_of_0_is_the_other_label_but_for_the_accuracy(name):
    logits, batch = random_batch()
    other = (batch["label"] + 1) % 4
    loss = getattr(losses, name)
    values = loss(logits, {**batch, "other_label": other, "share": np.zeros(6, np.float32)})
    np.testing.assert_array_equal(values["loss"], loss(logits, {"label": other})["loss"])
    np.testing.assert_array_equal(values["accuracy"], loss(logits, batch)["accuracy"])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_focal_loss_with_gamma_0_is_the_cross_entropy(smoothing):
    logits, batch = random_batch(as_jax(MIXED))

    def loss(logits, function):
        return function(logits, batch, label_smoothing=smoothing)["loss"].sum()

    focal, cross_entropy = (
        jax.value_and_grad(loss)(logits, function)
        for function in (functools.partial(losses.focal, gamma=0.0), losses.softmax_cross_entropy)
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), focal, cross_entropy)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_loss_of_extreme_logits_is_finite(gamma):
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)  # sure and right, sure and wrong
    loss, gradient = jax.value_and_grad(
        lambda logits: losses.focal(logits, {"label": np.array([0, 0])}, gamma=gamma)["loss"].sum()
    )(logits)
    np.testing.assert_allclose(loss, 2e4, rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0], [-1, 1]], atol=1e-6)


def test_sigmoid_cross_entropy_pulls_on_the_logit_of_the_label_as_hard_with_any_number_of_classes():
    for classes in (2, 100):
        gradient = jax.grad(
            lambda logits: losses.sigmoid_cross_entropy(logits, {"label": np.array([1])})["loss"].sum()
        )(np.zeros((1, classes), np.float32))
        assert gradient[0, 1] == -0.5


def test_hinge_equals_scikit_learns():
    logits, batch = random_batch(examples=50)
    expected = sklearn_metrics.hinge_loss(batch["label"], logits, labels=range(4))
    np.testing.assert_allclose(losses.hinge(logits, batch)["loss"].mean(), expected, rtol=1e-6)


def test_hinge_of_tied_logits_is_the_margin_whoever_is_right():
    tied = np.zeros((3, 3), np.float32)
    np.testing.assert_array_equal(losses.hinge(tied, {"label": np.arange(3)}, margin=2.0)["loss"], [2, 2, 2])


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", REFERENCES)
def test_what_has_diverged_is_no_number(name, wrong):
    logits = np.array([[wrong, 0, 0]], np.float32)
    values = getattr(losses, name)(logits, {"label": np.array([0])})
    assert np.isnan(values["accuracy"]).all()
    assert not np.isfinite(getattr(losses, name)(logits * np.nan, {"label": np.array([0])})["loss"]).any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_extreme_logits_is_finite(smoothing):
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    batch = {"label": np.array([0, 0])}
    loss, gradient = jax.value_and_grad(
        lambda logits: losses.softmax_cross_entropy(logits, batch, label_smoothing=smoothing)["loss"].sum()
    )(logits)
    # Right and sure costs 0, wrong and sure the distance of 2e4; smoothing moves half its share between them.
    np.testing.assert_allclose(loss, 2e4, rtol=1e-6)
    expected = [[smoothing / 2, -smoothing / 2], [smoothing / 2 - 1, 1 - smoothing / 2]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_accuracy_of_tied_logits_counts_the_first_class():
    batch = {"label": np.array([0, 1])}
    accuracy = losses.softmax_cross_entropy(np.zeros((2, 3), np.float32), batch)["accuracy"]
    np.testing.assert_array_equal(accuracy, [1, 0])


@pytest.mark.parametrize("key", ["label", "other_label"])
@pytest.mark.parametrize("wrong", [-1, 4, 100])
@pytest.mark.parametrize("name", REFERENCES)
def test_a_label_that_no_class_has_is_refused(name, wrong, key):
    logits, batch = random_batch(MIXED)
    batch[key] = np.where(np.arange(6) == 2, wrong, batch[key])
    said = rf"^The batch's '{key}' reaches {wrong}, and logits of 4 classes allow 0 to 3\. "
    with pytest.raises(InputError, match=said):
        getattr(losses, name)(logits, batch)
    with pytest.raises(InputError, match=said):  # as in a notebook: the values of labels are known, those of logits not
        jax.grad(lambda logits: getattr(losses, name)(logits, as_jax(batch))["loss"].sum())(logits)


SMOOTHED = [(name, case) for name in REFERENCES for case in ({}, {"label_smoothing": 0.1})]
SMOOTHED = [(name, case) for name, case in SMOOTHED if not case or name not in ("hinge", "mean_squared_error")]


@pytest.mark.parametrize("key", ["label", "other_label"])
@pytest.mark.parametrize(("name", "arguments"), SMOOTHED)
def test_inside_of_jit_the_values_of_such_an_example_are_nan_and_no_others(name, arguments, key):
    logits, batch = random_batch(MIXED)
    loss = jax.jit(functools.partial(getattr(losses, name), **arguments))
    values, rows = loss(logits, batch), np.array([1, 2, 4])
    batch[key][rows] = [-1, 4, 1000]
    found = loss(logits, batch)
    for metric, value in values.items():
        np.testing.assert_array_equal(found[metric], np.where(np.isin(np.arange(6), rows), np.nan, value))


@pytest.mark.parametrize("name", [*REFERENCES, "binary_cross_entropy"])
def test_padding_may_hold_anything(name):
    logits, batch = random_several() if name == "binary_cross_entropy" else random_batch()
    loss, mask = getattr(losses, name), np.arange(6) < 4
    expected = loss(logits, batch)
    batch["label"][4:] = [[-1], [99]] if batch["label"].ndim == 2 else [-1, 99]
    for padded in ({**batch, "mask": mask}, {**as_jax(batch), "mask": mask}):
        for metric, value in loss(logits, padded).items():
            np.testing.assert_array_equal(value[:4], expected[metric][:4])


ONE_LABEL = (
    "This loss takes one label for each image, [6]; the batch's 'label' is {}. "
    "Of one-hot rows give label.argmax(-1); for several labels of an image use "
)
SEVERAL = (
    "This loss takes several labels for each image, 0 or 1 for each class, [6, 4]; the batch's 'label' is {}. For one"
)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(
    ("name", "batch", "said"),
    [
        *((name, {"label": np.eye(6, 4)}, ONE_LABEL.format("float64[6, 4]")) for name in REFERENCES),
        ("hinge", {"label": np.zeros((6, 1), int)}, ONE_LABEL.format("int64[6, 1]")),
        ("focal", {"label": np.zeros(5, int)}, "outputs have 6 rows for 5 labels. Images are [B, H, W, C]"),
        ("softmax_cross_entropy", {"label": np.zeros(6)}, "whole numbers; the batch's 'label' is float64[6]. Cast"),
        ("binary_cross_entropy", {"label": np.zeros(6, int)}, SEVERAL.format("int64[6]")),
        ("binary_cross_entropy", {"label": np.zeros((6, 3), int)}, SEVERAL.format("int64[6, 3]")),
        ("softmax_cross_entropy", {"image": np.zeros(6)}, "This loss needs labels; the batch holds 'image'."),
    ],
)
def test_labels_of_another_shape_or_type_are_refused(name, batch, said, traced):
    logits, _ = random_batch()
    function = functools.partial(getattr(losses, name), logits)
    with pytest.raises(InputError, match=re.escape(said)), jax.enable_x64(True):
        jax.eval_shape(function, batch) if traced else function(batch)


def test_what_is_no_array_of_logits_or_labels_is_refused():
    _, batch = random_batch()
    for outputs, kind in (({"logits": 0}, "a dict"), (np.zeros(6), r"float64\[6\]"), (np.zeros((6, 2, 2)), "float64")):
        for name in losses.__all__:
            with pytest.raises(InputError, match=rf"This loss takes logits \[B, K\]; the model's outputs are {kind}"):
                getattr(losses, name)(outputs, batch)
    with pytest.raises(InputError, match="the batch's 'label' is a list"):
        losses.softmax_cross_entropy(np.zeros((2, 3)), {"label": [0, 1]})


# Several labels for each image


def random_several(mixed=False, examples: int = 6, classes: int = 4) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (examples, classes)).astype(np.float32)
    label = rng.integers(0, 2, (examples, classes))
    return logits, {"label": label} | ({"other_label": label[::-1].copy(), "share": MIXED["share"]} if mixed else {})


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float32])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_is_the_mean_over_the_classes(smoothing, mixed, dtype):
    logits, batch = random_several(mixed)
    target = batch["label"].astype(float)
    if mixed:
        target = batch["share"][:, None] * target + (1 - batch["share"][:, None]) * batch["other_label"]
    target = target * (1 - smoothing) + smoothing / 2
    batch = {name: values if name == "share" else values.astype(dtype) for name, values in batch.items()}
    values = losses.binary_cross_entropy(logits, as_jax(batch), label_smoothing=smoothing)
    expected = numpy_binary_cross_entropy(logits.astype(np.float64), target) / 4
    np.testing.assert_allclose(values["loss"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(values["accuracy"], ((logits > 0) == batch["label"]).mean(-1))
    gradient = jax.grad(
        lambda logits: losses.binary_cross_entropy(logits, batch, label_smoothing=smoothing)["loss"].sum()
    )(logits)
    np.testing.assert_allclose(gradient, (special.expit(logits.astype(np.float64)) - target) / 4, rtol=1e-4, atol=1e-6)


def test_binary_cross_entropy_equals_scikit_learns_class_by_class():
    logits, batch = random_several(examples=50)
    values = losses.binary_cross_entropy(logits, batch)
    p = special.expit(logits.astype(np.float64))
    expected = [sklearn_metrics.log_loss(batch["label"][:, index], p[:, index]) for index in range(4)]
    np.testing.assert_allclose(values["loss"].mean(), np.mean(expected), rtol=1e-6)
    hamming = sklearn_metrics.hamming_loss(batch["label"], logits > 0)
    np.testing.assert_allclose(values["accuracy"].mean(), 1 - hamming, rtol=1e-6)


def test_binary_cross_entropy_of_extreme_logits_is_finite():
    logits = np.array([[1e4, -1e4, 1e4, -1e4]], np.float32)  # sure and right twice, sure and wrong twice
    batch = {"label": np.array([[1, 0, 0, 1]])}
    loss, gradient = jax.value_and_grad(lambda logits: losses.binary_cross_entropy(logits, batch)["loss"].sum())(logits)
    assert loss == 5e3
    np.testing.assert_array_equal(gradient, [[0, 0, 0.25, -0.25]])
    near = np.array([[-40.0, 40.0]], np.float32)  # where float32's 1 - sigmoid is 0
    found = losses.binary_cross_entropy(near, {"label": np.array([[0, 1]])})["loss"]
    np.testing.assert_allclose(found, np.exp(-40.0), rtol=1e-5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_of_several_labels_what_has_diverged_is_no_number(wrong):
    logits, batch = random_several()
    logits[1, 2] = wrong
    values = losses.binary_cross_entropy(logits, batch)
    np.testing.assert_array_equal(np.isnan(values["accuracy"]), np.arange(6) == 1)
    assert not np.isfinite(losses.binary_cross_entropy(logits * np.nan, batch)["loss"]).any()


@pytest.mark.parametrize("key", ["label", "other_label"])
@pytest.mark.parametrize("wrong", [-1, 2, 0.5, np.nan])
def test_of_several_labels_each_is_0_or_1(wrong, key):
    logits, batch = random_several(mixed=True)
    batch = {name: values.astype(np.float32) for name, values in batch.items()}
    expected = losses.binary_cross_entropy(logits, batch)
    batch[key][3, 1] = wrong
    with pytest.raises(
        InputError, match=rf"^The batch's '{key}' holds {float(wrong)}, where 0 .* and 1 .* are allowed"
    ):
        losses.binary_cross_entropy(logits, batch)
    found = jax.jit(losses.binary_cross_entropy)(logits, batch)
    for metric, value in found.items():
        np.testing.assert_array_equal(np.isnan(value), np.arange(6) == 3)
        np.testing.assert_allclose(value[np.arange(6) != 3], expected[metric][np.arange(6) != 3], rtol=1e-6)
