"""Objects from specs: what a config's optimizer really does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.make import decayed, make, make_optimizer
from jaxrec import losses, models
from jaxrec.errors import InputError

PARAMS = {"kernel": jnp.full((3, 2), 2.0), "bias": jnp.full((2,), 2.0), "scale": jnp.full((2,), 2.0)}
ZERO = jax.tree.map(jnp.zeros_like, PARAMS)


def step(tx: optax.GradientTransformation, grads: dict, times: int = 1) -> dict:
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(times):
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_names_are_looked_up_in_the_module_and_arguments_bound():
    assert make(models, {"name": "CNN", "widths": (4,)})(classes=3) == models.CNN(classes=3, widths=(4,))
    logits, batch = jnp.zeros((2, 4)), {"label": jnp.zeros(2, jnp.int32)}
    loss = make(losses, {"name": "softmax_cross_entropy", "label_smoothing": 0.5})
    np.testing.assert_allclose(loss(logits, batch)["loss"], np.log(4), rtol=1e-6)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(InputError, match=r"jaxrec\.models has no 'CNNN'\. Did you mean 'CNN'\? It has: .*CNN"):
        make(models, {"name": "CNNN"})


@pytest.mark.parametrize(
    ("spec", "options", "shrunk"),
    [
        ({"name": "sgd", "learning_rate": 0.1}, {"l2": 0.5}, 1 - 0.1 * 0.5),
        ({"name": "adamw", "learning_rate": 0.1, "weight_decay": 0.5}, {}, 1 - 0.1 * 0.5),
        ({"name": "lamb", "learning_rate": 0.1, "weight_decay": 0.5}, {}, None),
        ({"name": "lars", "learning_rate": 0.1, "weight_decay": 0.5}, {}, None),
    ],
    ids=lambda value: value.get("name") if isinstance(value, dict) else None,
)
def test_weight_decay_shrinks_kernels_and_leaves_biases_and_scales(spec, options, shrunk):
    """With no gradient at all, decay is all that moves a parameter."""
    after = step(make_optimizer(spec, steps=10, **options), ZERO)
    np.testing.assert_array_equal(after["bias"], PARAMS["bias"])
    np.testing.assert_array_equal(after["scale"], PARAMS["scale"])
    assert (np.asarray(after["kernel"]) < 2).all()
    if shrunk is not None:
        np.testing.assert_allclose(after["kernel"], 2 * shrunk, rtol=1e-6)


def test_decay_goes_by_the_number_of_dimensions():
    assert decayed(PARAMS) == {"kernel": True, "bias": False, "scale": False}


def test_gradients_are_clipped_to_their_global_norm_before_decay():
    grads = jax.tree.map(lambda p: jnp.full(p.shape, 3.0), PARAMS)
    norm = 3.0 * np.sqrt(10)
    after = step(make_optimizer({"name": "sgd", "learning_rate": 1.0}, steps=10, clip_norm=0.5, l2=0.1), grads)
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
    ],
)
def test_a_schedule_without_its_steps_lasts_the_whole_run(schedule, expected):
    tx = make_optimizer({"name": "sgd", "learning_rate": schedule}, steps=8)
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    state = tx.init(PARAMS)
    for count in range(8):
        updates, state = tx.update(grads, state, PARAMS)
        np.testing.assert_allclose(updates["bias"], -expected(count), rtol=1e-5, atol=1e-7)


def test_a_schedule_that_does_not_fit_the_run_is_said():
    schedule = {"name": "warmup_cosine_decay_schedule", "init_value": 0.0, "peak_value": 0.1, "warmup_steps": 20}
    with pytest.raises(InputError, match=r"config\.optimizer\.learning_rate over 10 steps"):
        make_optimizer({"name": "sgd", "learning_rate": schedule}, steps=10)
