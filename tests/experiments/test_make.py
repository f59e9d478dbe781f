"""Objects from specs: what a config's optimizer really does."""

import dataclasses
import sys
import types
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.settings.make import bound, make
from experiments.settings.specs import LossSpec, ModelSpec, Named, OptimizerSpec
from experiments.updates import Updates, make_optimizer, rate_of
from jaxrec import models
from jaxrec.errors import InputError
from jaxrec.optim import optimizers

PARAMS = {"kernel": jnp.full((3, 2), 2.0), "bias": jnp.full((2,), 2.0), "scale": jnp.full((2,), 2.0)}
ZERO = jax.tree.map(jnp.zeros_like, PARAMS)


def step(tx: optax.GradientTransformation, grads: dict, times: int = 1) -> dict:
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(times):
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_names_are_looked_up_in_the_module_and_arguments_bound():
    assert make(ModelSpec, {"name": "CNN", "widths": (4,)})(classes=3) == models.CNN(classes=3, widths=(4,))
    logits, batch = jnp.zeros((2, 4)), {"label": jnp.zeros(2, jnp.int32)}
    loss = make(LossSpec, {"name": "softmax_cross_entropy", "label_smoothing": 0.5})
    np.testing.assert_allclose(loss(logits, batch)["loss"], np.log(4), rtol=1e-6)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(InputError, match=r"No 'CNNN' in jaxrec\.models\. Did you mean 'CNN'\? There are: .*CNN"):
        make(ModelSpec, {"name": "CNNN"})
    with pytest.raises(InputError, match=r"No 'adm' in jaxrec\.optim\.optimizers or optax\. Did you mean 'adam'\?"):
        make(OptimizerSpec, {"name": "adm"})


def test_the_first_module_that_has_a_name_is_taken(monkeypatch):
    both = [types.ModuleType("first"), types.ModuleType("second")]
    both[0].f, both[1].f, both[1].g = lambda: "first", lambda: "second", lambda: "only"
    for module in both:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    kind = Annotated[Mapping, Named(("first", "second"))]
    assert [make(kind, {"name": name})() for name in "fg"] == ["first", "only"]


class Fields(NamedTuple):
    width: int = 3


@dataclasses.dataclass
class Dataclass:
    width: int = 3


def test_a_section_of_fields_becomes_what_it_is_annotated_by():
    def build(*, fields: Fields, data: Dataclass, model: ModelSpec, other: Any = None):
        return fields, data, model, other

    model = {"name": "CNN"}
    made = bound(build, {"fields": {"width": 4}, "data": {}, "model": model, "other": {"x": 1}})()
    assert made == (Fields(4), Dataclass(3), model, {"x": 1})


@pytest.mark.parametrize(
    ("spec", "options", "shrunk"),
    [
        ({"name": "sgd", "learning_rate": 0.1}, {"l2": 0.5}, 1 - 0.1 * 0.5),
        ({"name": "adamw", "learning_rate": 0.1, "weight_decay": 0.5}, {}, 1 - 0.1 * 0.5),
        ({"name": "sgd", "learning_rate": 0.1}, {"l1": 0.5}, 1 - 0.1 * 0.5 / 2),
        ({"name": "muon", "learning_rate": 0.1, "weight_decay": 0.5}, {}, 1 - 0.1 * 0.5),
        ({"name": "lamb", "learning_rate": 0.1, "weight_decay": 0.5}, {}, None),
        ({"name": "lars", "learning_rate": 0.1, "weight_decay": 0.5}, {}, None),
    ],
    ids=lambda value: value.get("name") if isinstance(value, dict) else None,
)
def test_weight_decay_shrinks_kernels_and_leaves_biases_and_scales(spec, options, shrunk):
    """With no gradient at all, decay is all that moves a parameter."""
    after = step(make_optimizer(spec, Updates(**options), steps=10), ZERO)
    np.testing.assert_array_equal(after["bias"], PARAMS["bias"])
    np.testing.assert_array_equal(after["scale"], PARAMS["scale"])
    assert (np.asarray(after["kernel"]) < 2).all()
    if shrunk is not None:
        np.testing.assert_allclose(after["kernel"], 2 * shrunk, rtol=1e-6)


def test_decay_goes_by_the_number_of_dimensions():
    assert optimizers.decayed(PARAMS) == {"kernel": True, "bias": False, "scale": False}


def test_gradients_are_clipped_to_their_global_norm_before_decay():
    grads = jax.tree.map(lambda p: jnp.full(p.shape, 3.0), PARAMS)
    norm = 3.0 * np.sqrt(10)
    after = step(make_optimizer({"name": "sgd", "learning_rate": 1.0}, Updates(clip_norm=0.5, l2=0.1), steps=10), grads)
    np.testing.assert_allclose(after["bias"], 2 - 3.0 * 0.5 / norm, rtol=1e-6)
    np.testing.assert_allclose(after["kernel"], 2 - 3.0 * 0.5 / norm - 0.1 * 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "cosine_decay_schedule", "init_value": 0.2}, lambda s: 0.1 * (1 + np.cos(np.pi * s / 8))),
        (
            {"name": "cosine_decay_schedule", "init_value": 0.2, "decay_steps": 2},
            lambda s: [0.2, 0.1, 0, 0, 0, 0, 0, 0][s],
        ),
        ({"name": "linear_schedule", "init_value": 0.0, "end_value": 0.8}, lambda s: 0.1 * s),
        ({"name": "warmup_linear", "peak": 0.8, "warmup": 0.0}, lambda s: 0.1 * (8 - s)),
        ({"name": "warmup_linear", "peak": 0.8, "warmup": 0.0, "steps": 4}, lambda s: 0.2 * max(4 - s, 0)),
    ],
)
def test_a_schedule_without_its_steps_lasts_the_whole_run(schedule, expected):
    tx = make_optimizer({"name": "sgd", "learning_rate": schedule}, steps=8)
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    state = tx.init(PARAMS)
    rate = rate_of({"name": "sgd", "learning_rate": schedule}, steps=8)
    twice = rate_of({"name": "sgd", "learning_rate": schedule}, steps=8, each=2)  # of a run of four
    for count in range(8):
        updates, state = tx.update(grads, state, PARAMS)
        np.testing.assert_allclose(updates["bias"], -expected(count), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(rate(count), expected(count), rtol=1e-5, atol=1e-7)
        assert twice(count) == rate(2 * count)
    assert rate_of({"name": "adafactor", "learning_rate": None}, steps=8) is None


def test_any_rate_may_follow_a_schedule():
    decay = {"name": "linear_schedule", "init_value": 1.0, "end_value": 0.0}
    tx = make_optimizer({"name": "adamw", "learning_rate": 0.5, "weight_decay": decay}, steps=2)
    state = tx.init(PARAMS)
    for expected in (0.5 * 1.0 * 2, 0.5 * 0.5 * 2):
        updates, state = tx.update(ZERO, state, PARAMS)
        np.testing.assert_allclose(updates["kernel"], -expected, rtol=1e-6)


def test_both_rates_of_muon_may_follow_schedules():
    """AdamW of constant gradients takes steps of its rate, and an orthogonal update of 1 x 1 is always the same."""
    fall = {"name": "linear_schedule", "init_value": 1.0, "end_value": 0.0}
    adam = {"name": "warmup_linear", "peak": 0.5, "warmup": 0.0}
    tx = make_optimizer({"name": "muon", "learning_rate": fall, "adam_learning_rate": adam}, steps=4)
    params = {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}
    state, kernel, bias = tx.init(params), [], []
    for _ in range(4):
        updates, state = tx.update(params, state, params)
        kernel.append(-updates["kernel"].item())
        bias.append(-updates["bias"].item())
    np.testing.assert_allclose(np.array(kernel) / kernel[0], [1, 0.75, 0.5, 0.25], rtol=1e-5)
    assert 0.5 < kernel[0] < 1.5  # Jordan's own bounds
    np.testing.assert_allclose(bias, [0.5, 0.375, 0.25, 0.125], rtol=1e-4)


def test_what_is_frozen_takes_no_decay_and_counts_in_no_norm():
    grads = {"kernel": jnp.full((3, 2), 3.0), "bias": jnp.full((2,), 3.0), "scale": jnp.full((2,), 1e6)}
    options = {"clip_norm": 0.5, "l1": 0.1, "l2": 0.1, "freeze": "kernel|scale"}
    after = step(make_optimizer({"name": "sgd", "learning_rate": 1.0}, Updates(**options), steps=10), grads)
    np.testing.assert_array_equal(after["kernel"], PARAMS["kernel"])
    np.testing.assert_array_equal(after["scale"], PARAMS["scale"])
    np.testing.assert_allclose(after["bias"], 2 - 0.5 / np.sqrt(2), rtol=1e-6)


def test_factors_and_layer_decay_scale_whole_updates():
    """Behind the optimizer: before Adam a factor would be divided out, and decay would keep its strength."""
    params = {"block_0": {"kernel": jnp.ones((1, 1))}, "Dense_0": {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}}
    spec = {"name": "adamw", "learning_rate": 0.1, "weight_decay": 1.0}
    updates = Updates(lr_factors=(("bias$", 3.0), ("Dense", 2.0)), layer_decay=0.5, freeze="cls|Dense_0/b")
    tx = make_optimizer(spec, updates, steps=10)
    updates, _ = tx.update(params, tx.init(params), params)
    np.testing.assert_allclose(updates["block_0"]["kernel"], -0.1 * 2 * 0.5, rtol=1e-5)
    np.testing.assert_allclose(updates["Dense_0"]["kernel"], -0.1 * 2 * 2.0, rtol=1e-5)
    np.testing.assert_array_equal(updates["Dense_0"]["bias"], 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"freeze": "embeding"}, r"'embeding' is found in the path of no parameter; there are bias, kernel, scale\."),
        ({"freeze": "^"}, r"freeze = '\^' leaves no parameter"),
        ({"lr_factors": (("bais", 2.0),)}, "'bais' is found in the path of no parameter"),
        ({"layer_decay": 0.5}, "layer_decay = 0.5 needs a model whose layers are called block_0"),
    ],
)
def test_patterns_that_mean_nothing_are_said_when_the_parameters_are_known(options, said):
    tx = make_optimizer({"name": "adam", "learning_rate": 0.1}, Updates(**options), steps=10)
    with pytest.raises(InputError, match=said) as caught:
        jax.eval_shape(tx.init, PARAMS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "lbfgs", "learning_rate": 0.1},
        {"name": "polyak_sgd"},
        {"name": "adam", "learning_rate": 0.1, "mu_dtype": "foo"},
    ],
    ids=["needs the loss", "needs its value", "no such type"],
)
def test_what_optax_refuses_is_said_in_one_line(arguments):
    with pytest.raises(InputError, match=rf"config\.optimizer, {arguments['name']} over 10 steps: ") as caught:
        make_optimizer(arguments, steps=10)
    assert "\n" not in str(caught.value)


def test_a_schedule_that_does_not_fit_the_run_is_said():
    schedule = {"name": "warmup_cosine_decay_schedule", "init_value": 0.0, "peak_value": 0.1, "warmup_steps": 20}
    with pytest.raises(InputError, match=r"config\.optimizer, sgd over 10 steps"):
        make_optimizer({"name": "sgd", "learning_rate": schedule}, steps=10)
