"""The kinds of sections that name something, {"name": "CNN", "widths": (32, 64)}: a row for each, its one home.

An argument of an experiment's `build` that is annotated by a kind is such a section; `schema.check` reads here what it
may name, and `make(kind, section)` where that is found. A package outside has kinds of its own in the same way.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, get_origin


class Named(NamedTuple):
    """What a `name` may be: a public definition of one of these modules, the first that has it, or "package.module.it".

    Of the definitions there, those are meant that pass what is said below, as their source has it.
    """

    modules: tuple[str, ...]
    begins: tuple[tuple[str, ...], ...] = ()  # names of its first arguments, which come at each step; any of each
    takes: tuple[str, ...] = ()  # arguments that the experiment gives
    may_take: tuple[str, ...] = ()  # arguments that are given where it has them
    whole_run: tuple[str, ...] = ()  # arguments that are the steps of the whole run where a config leaves them out
    has: tuple[str, ...] = ()  # arguments besides, which a config sets
    returns: tuple[str, ...] = ()  # what it is annotated to return, one of these
    many: bool = False  # whether the section is a sequence of sections


DataSpec = Annotated[Mapping, Named(("jaxrec.data.sources", "jaxrec.data.folders"), returns=("Dataset",))]
AugmentSpecs = Annotated[
    Sequence[Mapping], Named(("jaxrec.augment",), begins=(("image", "example"), ("key",)), many=True)
]
MixSpec = Annotated[Mapping, Named(("jaxrec.augment.mix",), begins=(("batch",), ("keys",)))]
ModelSpec = Annotated[Mapping, Named(("jaxrec.models",), takes=("classes",))]
LossSpec = Annotated[
    Mapping,
    Named(
        ("jaxrec.losses",),
        begins=(("outputs", "logits"), ("batch",)),
        may_take=("params", "extra", "step", "average"),  # see jaxrec.tasks.one_loss.from_apply
    ),
]
AutoencoderSpec = Annotated[Mapping, Named(("jaxrec.models.autoencoders",), takes=("shape",), has=("latent",))]
ReconstructionSpec = Annotated[Mapping, Named(("jaxrec.losses.reconstruction",), begins=(("outputs",), ("batch",)))]
VariationalModelSpec = Annotated[
    Mapping, Named(("jaxrec.models.vae",), takes=("shape", "classes", "scaled"), has=("latent",))
]
LikelihoodSpec = Annotated[Mapping, Named(("jaxrec.losses.variational",), returns=("Likelihood",))]
DecoderSpec = Annotated[Mapping, Named(("jaxrec.models.decoders",), takes=("shape",))]
CriticSpec = Annotated[Mapping, Named(("jaxrec.models.critics",), takes=("classes",))]
AdversarialLossSpec = Annotated[Mapping, Named(("jaxrec.losses.adversarial",), returns=("AdversarialLoss",))]
OptimizerSpec = Annotated[
    Mapping,
    Named(
        ("jaxrec.optim.optimizers", "optax"),
        may_take=("mask", "weight_decay_mask"),
        has=("learning_rate",),
        returns=("GradientTransformation", "GradientTransformationExtraArgs"),
    ),
]
# This one bears the name by which optax annotates its numbers: any of them may be a section instead.
ScalarOrSchedule = Annotated[
    Mapping,
    Named(
        ("jaxrec.optim.schedules", "optax.schedules"),
        whole_run=("steps", "decay_steps", "transition_steps"),
        returns=("Schedule",),
    ),
]


def named(kind: Any) -> Named:
    """The row of a kind."""
    (row,) = kind.__metadata__
    return row


# By the name of their annotation.
SPECS: dict[str, Named] = {name: named(kind) for name, kind in list(globals().items()) if get_origin(kind) is Annotated}
