"""Generation by two networks that learn against each other: one makes images, the other tells them from real ones."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.experiment import Experiment, FinishedRun, Train
from experiments.images import Fold, check_one_label, check_unit_range, in_turn, read_images
from experiments.judge import judge_of
from experiments.settings.make import make
from experiments.settings.specs import AdversarialLossSpec, CriticSpec, DataSpec, DecoderSpec, OptimizerSpec
from experiments.updates import Updates, make_optimizer, rate_of
from jaxrec.data import transforms
from jaxrec.data.keys import NOISE
from jaxrec.engine.hooks import every
from jaxrec.engine.loop import Hook
from jaxrec.errors import InputError
from jaxrec.models.generators import Generator
from jaxrec.output import diversity, records
from jaxrec.output.alarms import Watchman
from jaxrec.output.layers import layer_table
from jaxrec.output.pictures import grid
from jaxrec.tasks import adversarial
from jaxrec.tasks.average import with_average
from jaxrec.tasks.gradients import accumulated
from jaxrec.tasks.task import State
from jaxrec.types import Array, Count, NonNegative, Seed

SAMPLE = 256  # images of which diversity is measured
ROWS = 10  # of the picture, at most


def build(
    *,
    train: Train,
    data: DataSpec,
    generator: DecoderSpec,
    discriminator: CriticSpec,
    loss: AdversarialLossSpec,
    optimizer: OptimizerSpec,
    discriminator_optimizer: OptimizerSpec | None = None,
    updates: Updates = Updates(),
    latent: Count = 64,
    critic_steps: Count = 1,
    spectral_norm: bool = False,
    gradient_penalty: NonNegative = 0.0,
    r1: NonNegative = 0.0,
    conditional: bool = False,
    seed: Seed = 0,
    features: str | None = None,
    sample_every: Count | None = None,
    fold: Fold = Fold(),
    overfit: Count | None = None,
) -> Experiment:
    """A generative adversarial network.

    Args:
      train: how long, in which batches, on which devices. A batch holds `critic_steps` parts.
      data: the source of the images.
      generator: the network from noise to image; its `shape` is set to the images'.
      discriminator: the network from image to logit.
      loss: what the two minimise.
      optimizer: of the generator.
      discriminator_optimizer: of the discriminator; the same as the generator's by default.
      updates: what is done to gradients before both optimizers and to their updates behind them. The moving average is
        the generator's: it is evaluated beside it, before the same discriminator, and draws the samples. `accumulate`
        divides each of the `critic_steps` parts once more.
      latent: size of the noise.
      critic_steps: steps of the discriminator for one of the generator, each on a part of the batch.
      spectral_norm: divides the discriminator's matrices by their largest singular value.
      gradient_penalty: weight of the penalty on slopes other than 1 between real and generated images.
      r1: weight of the penalty on slopes at real images.
      conditional: whether both networks are told the class.
      seed: of the initial parameters, the order of the examples, and the noise.
      features: the folder of a finished run of `classify` on such images, by whose features the samples are compared
        with real images; the smallest Frechet distance on validation chooses the best checkpoint. Without one their
        pixels are compared, which chooses nothing: the newest state is the run's.
      sample_every: steps between two pictures of samples, rounded up to a multiple of train.log_every; an epoch by
        default.
      fold: the run's part of a cross-validation, which `launch.py cross_validate` sets.
      overfit: train and evaluate on this many images of the train split alone.
    """
    images = read_images(data, train, seed=seed, fold=fold, overfit=overfit)
    dataset, shape = images.dataset, images.dataset.image.shape[1:]
    check_unit_range(dataset, "a generator makes")
    own = check_one_label(dataset, "config.conditional takes") if conditional else None
    penalties = [name for name, weight in (("gradient_penalty", gradient_penalty), ("r1", r1)) if weight]
    if penalties and discriminator.get("norm") == "batch":
        raise InputError(
            f"config.{penalties[0]} and discriminator.norm = 'batch': the penalty is on each image by itself, which a "
            "batch norm ties to the others. Use discriminator.norm = 'layer' or 'none'."
        )
    judge = judge_of(features, dataset, by_class=conditional)
    classes = len(dataset.classes) if conditional else None
    maker = Generator(make(DecoderSpec, generator)(shape=shape), classes)
    critic_optimizer, critic_taken = discriminator_optimizer or optimizer, images.steps * critic_steps
    critic = make(CriticSpec, discriminator)(classes=classes)
    task = adversarial.adversarial_task(
        maker,
        critic,
        make(AdversarialLossSpec, loss)(),
        tx_generator=make_optimizer(optimizer, updates, steps=images.steps),
        tx_discriminator=make_optimizer(critic_optimizer, updates, steps=critic_taken),
        latent=latent,
        critic_steps=critic_steps,
        spectral_norm=spectral_norm,
        penalty=gradient_penalty,
        r1=r1,
        statistics=lambda fake, batch: judge.statistics(batch["image"], fake, batch["mask"]),
        gradient=accumulated(updates.accumulate),
    )
    generate = adversarial.sampler(maker, latent)
    # The sample is drawn from the seed alone; of a network that is told the class, each class has a column.
    labels = np.arange(SAMPLE, dtype=np.int32) % max(1, len(dataset.classes))
    columns = len(dataset.classes) if conditional else 10

    drawn = jax.jit(generate)

    def draw(state: State) -> Array:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), NOISE), SAMPLE)
        return drawn(state, keys, jnp.asarray(labels))

    def picture(file: pathlib.Path, state: State) -> None:
        grid(file, jax.device_get(draw(state))[: columns * ROWS], columns)

    shuffled, splits = images.batches(transforms.unit_range, transforms.unit_range)
    prefix = "ema_" if updates.ema else ""

    def watch(workdir: pathlib.Path) -> list[Hook]:
        (workdir / "samples").mkdir(exist_ok=True)
        epoch = shuffled.per_pass
        held_out = in_turn(dataset.splits.get("validation", dataset.splits["train"]), dataset.one_label)[:SAMPLE]
        told = {"label": labels, "held_out_label": own[held_out]} if conditional else {}
        measure = diversity.measure(draw, images.shown, dataset.image[held_out], **told)
        return [
            every(train.eval_every or epoch, measure),
            every(
                sample_every or epoch,
                lambda moment: picture(workdir / "samples" / f"step_{moment.step:06d}.png", moment.state),
            ),
            Watchman(records.read(workdir / "metrics.jsonl")),
        ]

    def analyse(run: FinishedRun) -> dict:
        picture(run.workdir / "samples.png", run.state)
        return judge.analyse(run)

    def table() -> str:
        noise, label = np.zeros((1, latent), np.float32), labels[:1]
        return "\n\n".join(
            f"{name}\n{layer_table(network, image, label)}"
            for name, network, image in (
                ("generator", maker, noise),
                ("discriminator", critic, dataset.image[:1].astype("float32")),
            )
        )

    return Experiment(
        task=with_average(task, updates.ema, submodule="generator") if updates.ema else task,
        steps=images.steps,
        train=shuffled,
        splits=splits,
        monitor=f"validation/{prefix}{judge.monitor}" if features else None,  # no loss says which images are better
        mode="min",
        headline=(f"{prefix}{judge.monitor}", f"real_{judge.monitor}", "d_loss", "g_loss", "d_accuracy"),
        table=table,
        rates={
            "g_learning_rate": rate_of(optimizer, steps=images.steps),
            "d_learning_rate": rate_of(critic_optimizer, steps=critic_taken, each=critic_steps),
        },
        notes={**images.notes, **judge.notes},
        watch=watch,
        analyse=analyse,
        generate=generate,
        conditions=dataset.classes if conditional else (),
    )
