"""Variational autoencoders: a code for each image, images from codes, and how likely the model finds the data."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.experiment import Experiment, FinishedRun, Train
from experiments.images import Fold, check_one_label, check_unit_range, read_images
from experiments.judge import judge_of
from experiments.settings.make import make
from experiments.settings.specs import DataSpec, LikelihoodSpec, OptimizerSpec, VariationalModelSpec
from experiments.updates import Updates, make_optimizer, rate_of
from jaxrec import augment
from jaxrec.data import transforms
from jaxrec.data.batches import Batches, Transform, eval_batches
from jaxrec.data.keys import NOISE, example_keys
from jaxrec.data.streaming import Stream
from jaxrec.engine import hooks
from jaxrec.engine.loop import Hook, Moment
from jaxrec.errors import InputError
from jaxrec.losses import variational
from jaxrec.metrics import Metrics
from jaxrec.output import pictures
from jaxrec.output.layers import layer_table
from jaxrec.tasks.average import averaged, with_average
from jaxrec.tasks.gradients import accumulated
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.task import State
from jaxrec.tasks.variational import active_units, collapse, negative_log_likelihood
from jaxrec.types import Array, Batch, Count, Key, NonNegative, Seed

SHEET = 100  # images of samples.png, which begin with the classes in turn where the model is conditional
COLUMNS = 10  # of the pictures
SIDE = 20  # of manifold.png, in images


def build(
    *,
    train: Train,
    data: DataSpec,
    model: VariationalModelSpec,
    likelihood: LikelihoodSpec,
    optimizer: OptimizerSpec,
    updates: Updates = Updates(),
    seed: Seed = 0,
    objective: Literal["elbo", "iwae"] = "elbo",
    samples: Count = 1,
    beta: NonNegative = 1.0,
    warmup: NonNegative = 0.0,
    binarise: Literal["dynamic", "fixed"] | None = None,
    conditional: bool = False,
    nll_samples: Count = 5000,
    nll_images: Count | None = None,
    features: str | None = None,
    fold: Fold = Fold(),
    overfit: Count | None = None,
) -> Experiment:
    """A variational autoencoder trained on images in [0, 1], the best state chosen by its bound on validation.

    Args:
      train: how long, in which batches, on which devices.
      data: the source of the images.
      model: the networks; their shape and classes are set to the data's.
      likelihood: p(x|z).
      optimizer: of jaxrec or optax.
      updates: what is done to gradients before it and to its updates behind it; the moving average, which draws the
        pictures.
      seed: of the initial parameters, the order of the examples, binarisation, and codes.
      objective: the evidence lower bound, or the importance weighted one of `samples` codes.
      samples: codes drawn for each image, in training and evaluation.
      beta: weight of the divergence in the evidence lower bound.
      warmup: epochs over which that weight rises from 0.
      binarise: makes pixels 0 or 1 by a draw from their grey values. dynamic: a training image's anew in each epoch,
        as in Burda et al. (2016), an evaluated one's always the same; fixed: one draw of each image for ever.
      conditional: whether encoder and decoder are told the class.
      nll_samples: codes for each image in the estimate of the test images' log likelihood, stated beside it.
      nll_images: how many of the test images, the first, it is estimated on; all by default.
      features: the folder of a finished run of `classify` on such images, by whose features samples are compared with
        real images; without one their pixels are.
      fold: the run's part of a cross-validation, which `launch.py cross_validate` sets.
      overfit: train and evaluate on this many images of the train split alone, for as many steps as the whole split
        would take.
    """
    if objective == "iwae" and (beta != 1 or warmup):
        raise InputError(f"config.beta = {beta}, config.warmup = {warmup} are for objective 'elbo': leave 1 and 0.")
    if binarise and likelihood["name"] != "bernoulli":
        name = likelihood["name"]
        raise InputError(f"config.binarise = {binarise!r} is for the likelihood 'bernoulli', not {name!r}: set None.")
    images = read_images(data, train, seed=seed, fold=fold, overfit=overfit)
    dataset, of_pixels = images.dataset, make(LikelihoodSpec, likelihood)()
    label = check_one_label(dataset, "config.conditional takes")[:1] if conditional else None
    check_unit_range(dataset, "A variational autoencoder takes")
    if of_pixels.discrete and dataset.image.dtype != np.uint8:
        raise InputError(f"config.likelihood.name = {likelihood['name']!r} takes images stored as uint8.")
    train_transform, eval_transform = _transforms(binarise)
    shuffled, splits = images.batches(train_transform, eval_transform)
    network = make(VariationalModelSpec, model)(
        shape=dataset.image.shape[1:],
        classes=len(dataset.classes) if conditional else None,
        scaled=of_pixels.scaled,
    )
    judge = judge_of(features, dataset, by_class=conditional)
    vae = VAE(network, of_pixels, seed, samples)
    evidence = variational.elbo(of_pixels, beta=beta, warmup=warmup)
    task = from_loss(
        network,
        evidence if objective == "elbo" else variational.iwae(of_pixels),
        make_optimizer(optimizer, updates, steps=images.steps),
        call=vae.call,
        statistics=active_units,
        gradient=accumulated(updates.accumulate),
    )
    prefix = "ema_" if updates.ema else ""

    def watch(workdir: pathlib.Path) -> Sequence[Hook]:
        generate = jax.jit(vae.generate)

        def draw(moment: Moment) -> None:
            drawn = generate(moment.state, vae.sheet_keys, vae.classes)
            pictures.grid(workdir / "samples.png", jax.device_get(drawn), COLUMNS)

        def warn(moment: Moment) -> None:
            active = moment.scalars.get(f"validation/{prefix}active_units", np.inf)
            if text := collapse(active, network.latent):
                moment.warnings.append(text)

        return [hooks.every(train.eval_every or shuffled.per_pass, draw), warn]

    def analyse(run: FinishedRun) -> Mapping[str, Mapping[str, float]]:
        split = "test" if "test" in splits else list(splits)[-1]
        whole, ids = splits[split], dataset.splits[split]
        some = eval_batches(
            dataset.arrays, ids=ids[:nll_images], seed=seed, batch_size=whole.batch_size, transform=eval_transform
        )
        measure = negative_log_likelihood(
            network, of_pixels, keys=vae.keys, conditional=conditional, samples=nll_samples
        )
        found = dict(run.evaluate(some, measure))
        if text := collapse(found.pop("active_units"), network.latent):
            print(text)
        vae.draw(run.workdir, run.state, whole, dataset.image)
        results = judge.analyse(run)
        _, grey = images.batches(transforms.unit_range, transforms.unit_range)
        for name in results:
            results[name].update(run.evaluate(grey[name], samples_beside))
        results[split] = {**results.get(split, {}), **found, "nll_samples": nll_samples, "nll_images": some.examples}
        return results

    def samples_beside(state: State, batch: Batch, key: Key) -> Metrics:
        """How expected images of the prior's codes, of the batch's classes if any, compare with its grey images."""
        del key
        made = vae.generate(state, vae.keys(batch), batch["label"] if conditional else None)
        return judge.statistics(batch["image"], made, batch["mask"])

    return Experiment(
        task=with_average(task, updates.ema) if updates.ema else task,
        steps=images.steps,
        train=shuffled,
        splits=splits,
        monitor=f"validation/{prefix}loss",
        mode="min",
        headline=(
            *("nll", "nll_samples", judge.monitor),
            *(f"{prefix}{name}" for name in ("elbo", "kl", "active_units", "reconstruction")),
        ),
        table=lambda: layer_table(network, images.shown[:1].astype("float32"), label, call=vae.on),
        rates={"learning_rate": rate_of(optimizer, steps=images.steps)},
        notes={**images.notes, **judge.notes},
        watch=watch,
        analyse=analyse,
        generate=vae.generate,
        conditions=dataset.classes if conditional else (),
    )


class VAE(NamedTuple):
    """A model with its likelihood, and what is done with both: called on batches, drawn from, pictured."""

    network: nn.Module
    likelihood: variational.Likelihood
    seed: Seed
    samples: Count

    def keys(self, batch: Batch) -> Key:
        """The keys [B] of the examples' codes."""
        return example_keys(batch, stream=NOISE)

    def call(self, network: nn.Module, batch: Batch, train: bool) -> Mapping[str, Array]:
        """How a task calls the model."""
        label = batch["label"] if network.classes else None
        return network(batch["image"], self.keys(batch), label, train=train, samples=self.samples)

    @staticmethod
    def on(network: nn.Module, image: Array, label: Array | None) -> Mapping[str, Array]:
        """The outputs for the codes' means, without noise."""
        return network(image, None, label, train=False)

    @property
    def sheet_keys(self) -> Key:
        """The keys of the sheet of samples."""
        return jax.random.split(jax.random.key(self.seed), SHEET)

    @property
    def classes(self) -> Array | None:
        """The labels of the sheet of samples, a class in each column where they are as many."""
        return jnp.arange(SHEET) % self.network.classes if self.network.classes else None

    def generate(self, state: State, keys: Key, labels: Array | None = None) -> Array:
        """Images [N, H, W, C] of codes drawn from the prior; see `Experiment.generate`.

        A conditional model draws the classes as well where they are not given.
        """
        code = jax.vmap(lambda key: jax.random.normal(key, (self.network.latent,)))(keys)
        if self.network.classes and labels is None:
            labels = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), 0, self.network.classes))(
                keys
            )
        return self.decoded(state, code, labels)

    def decoded(self, state: State, code: Array, label: Array | None) -> Array:
        """The expected images [N, H, W, C] of codes [N, Z], in [0, 1]."""
        variables = averaged(state).variables
        outputs = self.network.apply(variables, code[:, None], label, train=False, method="decode")
        return self.likelihood.mean(outputs["logits"][:, 0])

    def draw(self, workdir: pathlib.Path, state: State, batches: Batches, stored: np.ndarray | Stream) -> None:
        """Writes samples.png, reconstructions.png, walk.png, and manifold.png where the code has two units.

        Args:
          workdir: the run's folder.
          state: of the model.
          batches: of a split, the first images of which are pictured.
          stored: all images of the set.
        """
        first = {name: rows[: min(COLUMNS, batches.examples)] for name, rows in batches.host(0).items()}
        batch = jax.jit(batches.fetch)(batches.resident, first)
        drawn = jax.device_get(jax.jit(self._pictures)(averaged(state), batch, self.sheet_keys))
        seen = {name: drawn.pop(name) for name in ("seen", "decoded")}
        rows = {"stored": stored[first["id"]], **seen}
        pictures.contact_sheet(workdir / "reconstructions.png", rows)
        for name, images in drawn.items():
            pictures.grid(workdir / f"{name}.png", images, SIDE if name == "manifold" else COLUMNS)

    def _pictures(self, state: State, batch: Batch, keys: Key) -> dict[str, Array]:
        """Name of a picture, or of a row of reconstructions.png -> its images; the samples are drawn by `keys`."""
        image, label = batch["image"], batch["label"] if self.network.classes else None
        mean, _ = self.network.apply(state.variables, image, label, train=False, method="encode")
        # From each code to the next image's, in a straight line, under the first one's label.
        share = jnp.linspace(0, 1, COLUMNS)[None, :, None]
        walk = (1 - share) * mean[:, None] + share * jnp.roll(mean, -1, axis=0)[:, None]  # [B, COLUMNS, Z]
        repeated = None if label is None else label.repeat(COLUMNS)
        pictures = {
            "samples": self.generate(state, keys, self.classes),
            "seen": image,
            "decoded": self.decoded(state, mean, label),
            "walk": self.decoded(state, walk.reshape(-1, mean.shape[-1]), repeated),
        }
        if mean.shape[-1] == 2:
            # Evenly over the mass of the prior (Kingma and Welling, 2014, figure 4); of the first class.
            line = jax.scipy.special.ndtri((jnp.arange(SIDE) + 0.5) / SIDE)
            code = jnp.stack(jnp.meshgrid(line, line[::-1]), axis=-1).reshape(-1, 2)
            pictures["manifold"] = self.decoded(state, code, jnp.zeros(len(code), jnp.int32))
        return pictures


def _transforms(binarise: str | None) -> tuple[Transform, Transform]:
    """What training images and evaluated ones go through."""
    if not binarise:
        return transforms.unit_range, transforms.unit_range
    drawn = transforms.augmented([augment.binarise])

    def always_alike(batch: Batch) -> Batch:
        # Without its epoch, an example draws what it draws in an evaluation.
        return {**batch, **drawn({name: value for name, value in batch.items() if name != "epoch"})}

    return (drawn if binarise == "dynamic" else always_alike), drawn
