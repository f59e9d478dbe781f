"""The task of minimising one loss over what a network makes of a batch: a recogniser, an autoencoder, ...

`from_apply` takes a network as two pure functions, whatever library they are of; `from_loss` is its adapter for linen.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxrec import metrics
from jaxrec.data.transforms import check_scaled
from jaxrec.errors import InputError, check_is, described
from jaxrec.metrics import Metrics
from jaxrec.tasks.average import averaged
from jaxrec.tasks.gradients import Gradient, Objective, at_once, norm
from jaxrec.tasks.task import AVERAGE, State, Task, descend
from jaxrec.trees import leaf_types
from jaxrec.types import Array, Batch, Key, Loss, PyTree

Init = Callable[[Key, Batch], tuple[PyTree, PyTree]]  # (key, batch) -> (params, extra)
# (params, extra, batch, key, train) -> (outputs, extra); `train` is a Python bool
Apply = Callable[[PyTree, PyTree, Batch, Key, bool], tuple[Any, PyTree]]
Views = Callable[[Array], Sequence[Array]]


def from_apply(
    init: Init,
    apply: Apply,
    loss: Loss,
    tx: optax.GradientTransformation,
    *,
    train_loss: Loss | None = None,
    statistics: Callable[[Any, Batch], Metrics] | None = None,
    gradient: Callable[[Objective], Gradient] = at_once,
) -> Task:
    """The task of minimising one loss over the outputs of a network that is two pure functions.

    Args:
      init: (key, batch) -> (params, extra): what is optimised, and by name what is collected besides, such as batch
        statistics, or {}.
      apply: (params, extra, batch, key, train) -> (outputs, extra). What it returns in `extra` under the names that
        `init` gave is carried to the next step; under other names it is for the loss alone.
      loss: called as `loss(outputs, batch)`, gives per-example values [B] by name; "loss" is what is minimised, all of
        them are metrics. It gets more where it has keyword-only arguments of these names: `params`, those of the
        gradient; `extra`, what `apply` returned in it; `step`, how many were taken; `average`, the variables
        {"params": ..., ...} of the moving average that `with_average` keeps, constants to the gradient.
      tx: the optimizer.
      train_loss: minimised instead, where training weighs the examples otherwise than evaluation.
      statistics: more metrics of an evaluation, of its outputs and batch.
      gradient: how the gradient of the objective is taken, such as `accumulated(4)`; see `jaxrec.tasks.gradients`.

    Rows whose mask is False count in no loss and no metric. In training they must hold finite values all the same: a
    NaN reaches the gradient through 0 * NaN, and batch normalisation sees every row. `train_batches` never pads.

    Raises:
      InputError: when a step is traced: a loss gives no dictionary of values [B] with a "loss", or asks for what there
        is not; `apply` returns something of another shape in `extra` than it was given.
    """
    if not hasattr(tx, "update"):
        raise InputError(f"tx is {described(tx)}: an optimizer of optax is wanted, such as optax.adam(1e-3).")
    judge, minimised = _asking(loss), _asking(train_loss or loss)

    def start(key: Key, batch: Batch) -> State:
        params, extra = init(key, batch)
        return State(jnp.zeros((), jnp.int32), params, tx.init(params), extra)

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        count = jnp.sum(batch["mask"], dtype=jnp.float32)

        def objective(params: PyTree, extra: PyTree, part: Batch, key: Key) -> tuple[Array, tuple[PyTree, Metrics]]:
            outputs, found = apply(params, extra, part, key, True)
            values = minimised(outputs, part, state, params, found)
            means = metrics.means(values, part["mask"], required=("loss",))
            if not jnp.issubdtype(values["loss"].dtype, jnp.inexact):
                raise InputError(f"The loss is {values['loss'].dtype}: it needs floats to have a gradient.")
            return means["loss"].total / count, (_carried(extra, found), means)

        taken = gradient(objective)
        params, opt_state, (extra, means), grads = descend(
            lambda params: taken(params, state.collections, batch, key), tx, state.params, state.opt_state
        )
        if "gradient" in means:
            raise InputError("The loss gives a value called gradient, as the gradient's norm is. Call it otherwise.")
        return State(state.step + 1, params, opt_state, extra), {**means, "gradient": norm(grads)}

    def eval_step(state: State, batch: Batch, key: Key) -> Metrics:
        outputs, extra = apply(state.params, state.collections, batch, key, False)
        means = metrics.means(judge(outputs, batch, state, state.params, extra), batch["mask"])
        more = statistics(outputs, batch) if statistics else {}
        if twice := sorted({*means} & {*more}):
            raise InputError(
                f"The loss and the statistics both give {', '.join(twice)}. Give one of them another name."
            )
        return {**means, **more}

    def predict_step(state: State, batch: Batch, key: Key) -> PyTree:
        return apply(state.params, state.collections, batch, key, False)[0]

    return Task(start, train_step, eval_step, predict_step)


def on_images(model: nn.Module, batch: Batch, train: bool) -> Any:
    """How most models are called: on the batch's images alone.

    Raises:
      InputError: the images are bytes that nobody has scaled, or the model does not take `train`.
    """
    taken = inspect.signature(type(model).__call__).parameters.values()
    if not any(parameter.name == "train" or parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        raise InputError(
            f"{type(model).__name__} does not take `train`, a bool: models are called as model(image, train=...). Add "
            "it, or give from_loss(..., call=lambda model, batch, train: model(batch['image']))."
        )
    return model(check_scaled(batch["image"]), train=train)


def from_loss(
    model: nn.Module,
    loss: Loss,
    tx: optax.GradientTransformation,
    *,
    call: Callable[[nn.Module, Batch, bool], Any] = on_images,
    rngs: Sequence[str] = ("dropout",),
    sow: Sequence[str] = (),
    views: Views | None = None,
    **options: Any,
) -> Task:
    """The task of minimising one loss over the outputs of a linen module.

    Args:
      model: its params are optimised; its other collections (batch statistics) are carried in `State.extra` and
        updated in training.
      loss: as in `from_apply`.
      tx: the optimizer.
      call: what a model is called on, (model, batch, train) -> outputs: `model(image, train=...)`, or labels and the
        examples' own keys as well (`jaxrec.data.keys.example_keys`).
      rngs: the names that the model asks `make_rng` for. What it draws by them in an evaluation depends on the batches;
        what must not, an example draws from its own key.
      sow: collections that the model sows into, such as ("intermediates",): new at each step, for a loss that asks for
        `extra`.
      views: what an evaluation shows of each image, such as the image and its mirror image; see `over_views`.
      **options: train_loss, statistics, gradient, as in `from_apply`.
    """
    check_is(model, nn.Module, "from_loss takes a linen module first, such as models.CNN(classes=10)")
    init, apply = linen(model, call=call, rngs=rngs, sow=sow)
    return from_apply(init, over_views(apply, views) if views else apply, loss, tx, **options)


def linen(
    model: nn.Module,
    *,
    call: Callable[[nn.Module, Batch, bool], Any] = on_images,
    rngs: Sequence[str] = ("dropout",),
    sow: Sequence[str] = (),
) -> tuple[Init, Apply]:
    """A linen module as the two functions of `from_apply`. Arguments as in `from_loss`."""

    def init(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        extra = dict(model.init(key, batch, False, method=call))
        params = extra.pop("params", {})
        return params, {name: tree for name, tree in extra.items() if name not in sow}

    def apply(params: PyTree, extra: PyTree, batch: Batch, key: Key, train: bool) -> tuple[Any, PyTree]:
        drawn = {name: jax.random.fold_in(key, index) if index else key for index, name in enumerate(rngs)}
        mutable = [*(extra if train else ()), *sow]
        outputs, found = model.apply(
            {"params": params, **extra}, batch, train, method=call, rngs=drawn, mutable=mutable
        )
        return outputs, {**extra, **found}

    return init, apply


def over_views(apply: Apply, views: Views) -> Apply:
    """A network whose outputs in an evaluation are means over several views of each image (test-time augmentation).

    Args:
      apply: as in `from_apply`.
      views: images [B, H, W, C] -> a sequence of such, as those of `jaxrec.augment.views`. Outputs that are no floating
        point numbers are the first view's.

    Raises:
      InputError: when traced, where an output has places, [B, H, W, ...], which a view would have moved.
    """

    def mean(*each: Array) -> Array:
        if each[0].ndim > 2:
            raise InputError(
                f"views average outputs of an image, [B] or [B, K]; this network's are {list(each[0].shape)}, and "
                "where a view has moved the image their places do not agree. Evaluate without views."
            )
        return sum(each) / len(each) if jnp.issubdtype(each[0].dtype, jnp.inexact) else each[0]

    def seen(params: PyTree, extra: PyTree, batch: Batch, key: Key, train: bool) -> tuple[Any, PyTree]:
        if train:
            return apply(params, extra, batch, key, train)
        each = [apply(params, extra, {**batch, "image": image}, key, False) for image in views(batch["image"])]
        return jax.tree.map(mean, *(outputs for outputs, _ in each)), each[0][1]

    return seen


def _asking(loss: Loss) -> Callable[..., Any]:
    """A loss called with what it asks for: (outputs, batch, state, params, extra) -> its values."""
    asked = [
        name
        for name, parameter in inspect.signature(loss).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name in ("params", "extra", "step", "average")
    ]

    def values(outputs: Any, batch: Batch, state: State, params: PyTree, extra: PyTree) -> Any:
        if "average" in asked and AVERAGE not in state.extra:
            raise InputError("The loss asks for `average`: wrap the task in jaxrec.tasks.average.with_average.")
        known = {"params": params, "extra": extra, "step": state.step, "average": averaged(state).variables}
        return loss(outputs, batch, **{name: known[name] for name in asked})

    return values


def _carried(before: PyTree, found: PyTree) -> PyTree:
    """What of `found` the next step gets: the collections that were there before."""
    carried = {name: found[name] for name in before if name in found}
    old, new = leaf_types(before), leaf_types(carried)
    for path in sorted({*old, *new}):
        if old.get(path) != new.get(path):
            raise InputError(
                f"extra/{path} was {old.get(path, 'not there')} before a step and is {new.get(path, 'missing')} after "
                f"it: what is carried keeps its shape. If it is sown anew at each step, say from_loss(..., "
                f"sow=({path.partition('/')[0]!r},))."
            )
    return carried
