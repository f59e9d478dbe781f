"""Gradient transformations that optax lacks, or has for matrices alone. They are chained like optax's own.

Some of them choose parameters by path, "block_0/Dense_0/kernel". They look when a state is made (`init`), where the
parameters are known for the first time, so that a pattern that means nothing is an error before the first step.
"""

import operator
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxrec.errors import InputError
from jaxrec.trees import paths, spelled
from jaxrec.types import Count, Factors, NonNegative, Pattern, Positive, PyTree, Rate, Share

# Top-level names of what comes before the blocks of a transformer; convolutions make the tokens of CCT.
EMBEDDING = r"(embedding|tokenizer|Conv|positions|cls)(_|/|$)"


def muon(
    learning_rate: optax.ScalarOrSchedule,
    *,
    beta: Rate = 0.95,
    nesterov: bool = True,
    ns_steps: Count = 5,
    weight_decay: NonNegative = 0.0,
    consistent_rms: Positive | None = None,
    adam_learning_rate: optax.ScalarOrSchedule | None = None,
    adam_b1: Rate = 0.9,
    adam_b2: Rate = 0.999,
    fallback: Pattern | None = None,
    weight_decay_mask: Callable[[PyTree], PyTree] | None = None,
) -> optax.GradientTransformation:
    """Momentum whose matrices are orthogonalised, UV^T for USV^T (Jordan et al., 2024, "Muon"), and AdamW for the rest.

    A matrix is a parameter named `kernel`, or `recurrent`; a convolution's [h, w, in, out] is the matrix
    [h * w * in, out]. The orthogonalisation is approximate, by `ns_steps` of Newton and Schulz's iteration: singular
    values end near 1.

    Args:
      learning_rate: of the matrices.
      beta: decay of the momentum.
      nesterov: whether the step looks one decay ahead.
      ns_steps: iterations.
      weight_decay: times the learning rate, is what a parameter shrinks by at each step, AdamW's share too.
      consistent_rms: root mean square of an orthogonal update's elements, whatever the shape; 0.2 is about Adam's, so
        that one learning rate suits both (Liu et al., 2025, section 2.2). None: an update is scaled by
        sqrt(max(1, columns / rows)), and Adam wants a rate of its own.
      adam_learning_rate: of the rest; None: `learning_rate`.
      adam_b1: decay of Adam's first moment.
      adam_b2: decay of Adam's second moment.
      fallback: kernels that are left to AdamW, by path. None: those of the first and the last layer, as Jordan advises
        for embeddings and classifiers, where their names tell: a transformer's embedding, and the `Dense_<i>` of the
        largest i that lies in no other module. The first convolution is a matrix.
      weight_decay_mask: parameters -> True where weight decay applies, None: everywhere.
    """

    def labels(params: PyTree) -> PyTree:
        # A frozen parameter is a MaskedNode here. It has a path all the same, and the last layer stays the last.
        leaves, tree = jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_masked)
        dense = [int(found[1]) for path, _ in leaves if (found := re.match(r"Dense_(\d+)/", spelled(path)))]
        default = rf"^embedding/|^Dense_{max(dense, default=None)}/"
        to_adam = re.compile(default if fallback is None else fallback)

        def label(path: tuple, leaf: jax.Array | optax.MaskedNode) -> str | optax.MaskedNode:
            if _is_masked(leaf):
                return leaf
            kernel = leaf.ndim > 1 and re.search(r"(^|/)(kernel|recurrent)$", spelled(path))
            return "muon" if kernel and not to_adam.search(spelled(path)) else "adam"

        return tree.unflatten(label(path, leaf) for path, leaf in leaves)

    def as_matrices(kernels: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf: optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1), kernels
        )

    def scale(update: jax.Array) -> jax.Array:
        rows, columns = update.size // update.shape[-1], update.shape[-1]
        if consistent_rms is None:
            return update * max(1, columns / rows) ** 0.5
        return update * max(rows, columns) ** 0.5 * consistent_rms

    matrices = optax.chain(
        optax.contrib.scale_by_muon(
            ns_steps=ns_steps, beta=beta, nesterov=nesterov, weight_dimension_numbers=as_matrices
        ),
        optax.stateless_with_tree_map(lambda update, _: scale(update)),
        optax.add_decayed_weights(weight_decay, weight_decay_mask),
        optax.scale_by_learning_rate(learning_rate),
    )
    rest = optax.adamw(
        learning_rate if adam_learning_rate is None else adam_learning_rate,
        b1=adam_b1,
        b2=adam_b2,
        weight_decay=weight_decay,
        mask=weight_decay_mask,
    )
    return optax.partition({"muon": matrices, "adam": rest}, labels)


def decayed(params: PyTree) -> PyTree:
    """True for the parameters that penalties and weight decay shrink: kernels, which have 2 or more dimensions."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def l1(strength: NonNegative) -> optax.GradientTransformation:
    """Adds strength * sign(weight) to the gradients of kernels, the derivative of strength * |weight|; 0 at 0."""

    def add(gradient: jax.Array, weight: jax.Array) -> jax.Array:
        return gradient + strength * jnp.sign(weight)

    return optax.masked(optax.stateless_with_tree_map(add), decayed)


def scale_by_path(factors: Factors) -> optax.GradientTransformation:
    """Multiplies updates by the factor of the first pattern that is found in the parameter's path, else by 1.

    Behind an optimizer this is a learning rate of their own for some parameters, decay included, as the parameter
    groups of PyTorch have it: (("bias$", 64.0),).

    Raises:
      InputError: at `init`, where a pattern is found in no path.
    """

    def choose(names: list[str]) -> list[float]:
        for pattern, _ in factors:
            _check_found(pattern, names)
        return [next((factor for pattern, factor in factors if re.search(pattern, name)), 1.0) for name in names]

    return _scale_by(choose)


def layer_decay(rate: Share) -> optax.GradientTransformation:
    """Multiplies updates by rate**(L + 1 - layer), so that layers near the image move less.

    For fine-tuning transformers of L blocks (Clark et al., 2020, ELECTRA; Bao et al., 2022, BEiT): `block_<i>` is layer
    i + 1, what comes before the blocks (`embedding`, `tokenizer`, `Conv_<i>`, `positions`, `cls`) layer 0, and the
    rest, which is the last norm and the classifier, layer L + 1.

    Raises:
      InputError: at `init`, where no top-level module is called `block_<i>`.
    """

    def choose(names: list[str]) -> list[float]:
        blocks = [re.match(r"block_(\d+)/", name) for name in names]
        if not any(blocks):
            raise InputError(
                f"layer_decay = {rate} needs a model whose layers are called block_0, block_1, ..., as ViT's are; "
                f"{_list(names)}."
            )
        last = max(int(block[1]) for block in blocks if block) + 2
        layers = [
            int(block[1]) + 1 if block else 0 if re.match(EMBEDDING, name) else last
            for block, name in zip(blocks, names, strict=True)
        ]
        return [rate ** (last - layer) for layer in layers]

    return _scale_by(choose)


def freeze(pattern: Pattern, tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Applies `tx` to the parameters in whose path the pattern is not found; the others stay what they are.

    For `tx` the frozen parameters do not exist, as those without a gradient in PyTorch: they take no decay, they count
    in no norm, and there is no state for them.

    Raises:
      InputError: at `init`, where the pattern is found in no path, or in all.
    """

    def labels(params: PyTree) -> PyTree:
        names = list(paths(params))
        _check_found(pattern, names)
        frozen = {name for name in names if re.search(pattern, name)}
        if len(frozen) == len(names):
            raise InputError(f"freeze = {pattern!r} leaves no parameter to learn; {_list(names)}.")
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "frozen" if spelled(path) in frozen else "learned", params
        )

    return optax.partition({"learned": tx, "frozen": optax.set_to_zero()}, labels)


def _scale_by(choose: Callable[[list[str]], list[float]]) -> optax.GradientTransformation:
    """Multiplies updates by the factors that `choose` gives their paths, and lets it complain of them at `init`."""

    def init(params: PyTree) -> optax.EmptyState:
        choose(list(paths(params)))
        return optax.EmptyState()

    def update(updates: PyTree, state: optax.EmptyState, params: PyTree = None) -> tuple[PyTree, optax.EmptyState]:
        del params
        leaves, tree = jax.tree.flatten(updates)
        return tree.unflatten(map(operator.mul, choose(list(paths(updates))), leaves)), state

    return optax.GradientTransformation(init, update)


def _is_masked(leaf: object) -> bool:
    return isinstance(leaf, optax.MaskedNode)


def _check_found(pattern: Pattern, names: list[str]) -> None:
    if not any(re.search(pattern, name) for name in names):
        raise InputError(f"{pattern!r} is found in the path of no parameter; {_list(names)}.")


def _list(names: list[str]) -> str:
    """Some of the paths, in words: a large network has hundreds."""
    return f"there are {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
