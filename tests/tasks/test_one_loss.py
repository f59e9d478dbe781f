"""from_apply and from_loss: what a loss may ask for, what a model may draw and sow, networks that are not linen's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxrec import losses
from jaxrec.errors import InputError
from jaxrec.models import MLP
from jaxrec.tasks.average import with_average
from jaxrec.tasks.one_loss import from_apply, from_loss, linen, over_views

RATE = 0.5


def batch_of(examples: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(examples, 2, 2, 1)).astype(np.float32),
        "label": rng.integers(0, 3, examples),
        "mask": np.ones(examples, bool),
    }


def start(key, batch):
    return jnp.zeros(()), {}


def constant(params, extra, batch, key, train):
    """A network whose every output is its one parameter."""
    return jnp.broadcast_to(params, batch["mask"].shape), extra


def step_of(task, batch, steps=1, key=0):
    state = task.init(jax.random.key(0), batch)
    for _ in range(steps):
        state, metrics = task.train_step(state, batch, jax.random.key(key))
    return state, {name: float(metric.compute()) for name, metric in metrics.items()}


def test_a_network_of_two_functions_is_enough():
    """(p - 3)^2 has the gradient 2 (p - 3): with a rate of 1/4 each step halves the distance."""
    task = from_apply(start, constant, lambda out, batch: {"loss": jnp.square(out - 3)}, optax.sgd(0.25))
    state, metrics = step_of(task, batch_of(), steps=2)
    np.testing.assert_allclose(state.params, 3 - 3 / 4)
    np.testing.assert_allclose(metrics["loss"], (3 / 2) ** 2)
    np.testing.assert_allclose(task.predict_step(state, batch_of(), jax.random.key(0)), np.full(6, 2.25))


def test_the_gradient_s_norm_is_a_metric():
    """(p - 3)^2 / 2 + (q + 4)^2 / 2 at (0, 0): the gradient (-3, 4)."""

    def start(key, batch):
        return {"p": jnp.zeros(()), "q": jnp.zeros(())}, {}

    def network(params, extra, batch, key, train):
        value = ((params["p"] - 3) ** 2 + (params["q"] + 4) ** 2) / 2
        return jnp.broadcast_to(value, batch["mask"].shape), extra

    task = from_apply(start, network, lambda out, batch: {"loss": out}, optax.sgd(RATE))
    _, metrics = step_of(task, batch_of())
    np.testing.assert_allclose(metrics["gradient"], 5, rtol=1e-6)


def test_a_loss_s_own_value_is_not_taken_for_the_gradient_s_norm():
    loss = lambda out, batch: {"loss": jnp.square(out - 3), "gradient": out}  # noqa: E731
    with pytest.raises(InputError, match="The loss gives a value called gradient"):
        step_of(from_apply(start, constant, loss, optax.sgd(RATE)), batch_of())


def test_the_linen_adapter_is_that():
    model, batch = MLP(widths=(4,), classes=3), batch_of()
    adapted = from_apply(*linen(model), losses.softmax_cross_entropy, optax.sgd(RATE))
    direct = from_loss(model, losses.softmax_cross_entropy, optax.sgd(RATE))
    (one, metrics), (other, same) = (step_of(task, batch) for task in (adapted, direct))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert metrics == same


def test_a_loss_is_given_what_it_asks_for():
    """The gradient goes through `params`, and not through the average, which at step t holds those before the step."""

    def loss(outputs, batch, *, params, step, average, unit=2.0):
        pulled = jnp.square(params - average["params"] - 1)  # its gradient alone moves anything: -2 at equality
        return {"loss": jnp.broadcast_to(pulled, outputs.shape), "step": jnp.broadcast_to(step * unit, outputs.shape)}

    task = with_average(from_apply(start, constant, loss, optax.sgd(RATE)), 0.9)
    batch = batch_of()
    state = task.init(jax.random.key(0), batch)
    parameter = average = 0.0
    for taken in range(3):
        state, metrics = task.train_step(state, batch, jax.random.key(0))
        parameter -= RATE * 2 * (parameter - average - 1)
        keep = min(0.9, taken / (taken + 10))
        average = keep * average + (1 - keep) * parameter
        np.testing.assert_allclose(metrics["step"].compute(), 2 * taken)
        np.testing.assert_allclose(state.params, parameter, rtol=1e-6)
        np.testing.assert_allclose(state.extra["ema"]["params"], average, rtol=1e-6)


def test_a_loss_that_asks_for_an_average_without_one_says_so():
    def loss(outputs, batch, *, average):
        return {"loss": outputs}

    task = from_apply(start, constant, loss, optax.sgd(RATE))
    with pytest.raises(InputError, match=r"asks for `average`: wrap the task in .*with_average"):
        step_of(task, batch_of())


class Noisy(nn.Module):
    """Adds what it draws by two names, and sows what it has seen."""

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        outputs = nn.Dense(3)(image.reshape(len(image), -1))
        self.sow("seen", "sum", jnp.sum(outputs))
        drawn = [jax.random.normal(self.make_rng(name), outputs.shape) for name in ("dropout", "noise")]
        return outputs + drawn[0] - drawn[1]


def test_rngs_and_sown_collections_by_name():
    def loss(outputs, batch, *, extra):
        (seen,) = extra["seen"]["sum"]
        return {"loss": jnp.square(outputs).sum(-1), "seen": jnp.broadcast_to(seen, len(outputs))}

    task = from_loss(Noisy(), loss, optax.sgd(0.0), rngs=("dropout", "noise"), sow=("seen",))
    batch = batch_of()
    state, metrics = step_of(task, batch, steps=2)
    assert state.extra == {}  # what is sown is for one step
    layer = state.params["Dense_0"]
    outputs = batch["image"].reshape(6, -1) @ layer["kernel"] + np.asarray(layer["bias"])[None]
    np.testing.assert_allclose(metrics["seen"], outputs.sum(), rtol=1e-4)
    assert metrics["loss"] > np.square(outputs).sum(-1).mean()  # the two names draw differently: nothing cancels
    assert metrics["loss"] == step_of(task, batch)[1]["loss"] != step_of(task, batch, key=1)[1]["loss"]


def test_what_is_sown_without_saying_so_is_named():
    task = from_loss(Noisy(), losses.softmax_cross_entropy, optax.sgd(RATE), rngs=("dropout", "noise"))
    with pytest.raises(InputError, match=r"extra/seen/sum/1 was not there before a step.*sow=\('seen',\)"):
        step_of(task, batch_of())


def test_views_average_numbers_and_leave_integers():
    def apply(params, extra, batch, key, train):
        image = batch["image"][:, 0, 0, 0]
        return {"value": image, "code": jnp.round(image * 10).astype(jnp.int32)}, extra

    seen = over_views(apply, lambda image: [image, 3 * image])
    batch = {"image": jnp.array([0.1, 0.2]).reshape(2, 1, 1, 1)}
    outputs, _ = seen({}, {}, batch, None, False)
    np.testing.assert_allclose(outputs["value"], [0.2, 0.4], rtol=1e-6)
    assert outputs["code"].dtype == jnp.int32
    np.testing.assert_array_equal(outputs["code"], [1, 2])
    np.testing.assert_allclose(seen({}, {}, batch, None, True)[0]["value"], [0.1, 0.2])


def test_bytes_reach_no_network():
    batch = {**batch_of(), "image": np.zeros((6, 2, 2, 1), np.uint8)}
    task = from_loss(MLP(widths=(4,)), losses.softmax_cross_entropy, optax.sgd(RATE))
    with pytest.raises(InputError, match="uint8, unscaled: give the batches transform=unit_range"):
        task.init(jax.random.key(0), batch)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda outputs, batch: {"loss": outputs.mean()}, r"loss.*\[\]"),
        (lambda outputs, batch: {"loss": outputs[:, None]}, r"loss.*\[6, 1\]"),
        (lambda outputs, batch: {"loss": outputs, "map": jnp.zeros((6, 6))}, r"map.*\[6, 6\]"),
        (lambda outputs, batch: outputs, "loss"),
        (lambda outputs, batch: {"error": outputs}, "loss"),
    ],
    ids=["scalar", "column", "map", "array", "no loss"],
)
def test_a_loss_of_another_form_is_refused_by_name(loss, said):
    task = from_apply(start, constant, loss, optax.sgd(RATE))
    with pytest.raises(InputError, match=said):
        step_of(task, batch_of())


def test_views_of_outputs_that_have_places_are_refused():
    """A mirrored image's map is mirrored as well: its mean with the other is of no place."""

    def apply(params, extra, batch, key, train):
        return batch["image"], extra

    seen = over_views(apply, lambda image: [image, image[:, :, ::-1]])
    with pytest.raises(InputError, match=r"views average outputs of an image, \[B\] or \[B, K\]"):
        seen({}, {}, {"image": jnp.zeros((2, 4, 4, 1))}, None, False)


def test_a_name_that_loss_and_statistics_share_is_refused():
    def statistics(outputs, batch):
        return {"loss": None}

    task = from_apply(start, constant, lambda out, batch: {"loss": out}, optax.sgd(RATE), statistics=statistics)
    with pytest.raises(InputError, match="The loss and the statistics both give loss"):
        task.eval_step(task.init(jax.random.key(0), batch_of()), batch_of(), jax.random.key(0))


def test_a_loss_without_a_gradient_is_refused():
    task = from_apply(start, constant, lambda out, batch: {"loss": batch["label"]}, optax.sgd(RATE))
    with pytest.raises(InputError, match=r"The loss is int\d+: it needs floats to have a gradient"):
        step_of(task, batch_of())


def test_a_model_that_does_not_take_train_is_told_how_it_is_called():
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, image):
            return nn.Dense(3)(image.reshape(len(image), -1))

    with pytest.raises(InputError, match=r"Plain does not take `train`.*call=lambda model, batch, train"):
        from_loss(Plain(), losses.softmax_cross_entropy, optax.sgd(RATE)).init(jax.random.key(0), batch_of())


def test_images_without_channels_are_said_to_be():
    """Not the labels, of which there are as many as images."""
    batch = {**batch_of(), "image": np.zeros((6, 2, 2), np.float32)}

    def call(model, batch, train):
        return jnp.zeros((2, 3))

    task = from_loss(MLP(widths=(4,)), losses.softmax_cross_entropy, optax.sgd(RATE), call=call)
    with pytest.raises(InputError, match=r"outputs have 2 rows for 6 labels. Images are \[B, H, W, C\]"):
        step_of(task, batch)
