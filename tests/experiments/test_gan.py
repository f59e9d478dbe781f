"""The experiment through launch.py: what a run leaves behind, and what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import launch
from experiments.experiment import prepare
from experiments.settings.flags import from_flags
from jaxrec.engine.loop import Moment
from jaxrec.output.alarms import PATIENCE
from jaxrec.output.records import read

SMALL = [
    "--config=configs/digits_gan.py",
    "--config.train.batch_size=8",
    "--config.train.steps=3",
    "--config.train.log_every=1",
    "--config.train.eval_every=2",
    "--config.sample_every=2",
    "--config.generator={'name': 'DenseDecoder', 'widths': (4,)}",
    "--config.discriminator={'name': 'DenseCritic', 'widths': (4,)}",
]


@pytest.mark.slow
def test_a_run_leaves_its_samples_and_its_newest_state(tmp_path):
    assert launch.main([*SMALL, f"--workdir={tmp_path}/run"]) == 0
    run = tmp_path / "run"
    assert sorted(file.name for file in run.glob("samples/*")) == ["step_000002.png", "step_000003.png"]
    assert (run / "samples.png").read_bytes() == (run / "samples" / "step_000003.png").read_bytes()
    records = list(read(run / "metrics.jsonl"))
    assert ["samples/diversity" in record for record in records] == [False, True, True]
    assert len({record["real/nearest"] for record in records[1:]}) == 1
    result = json.loads((run / "result.json").read_text())
    assert result["step"] == 3
    assert result["metrics"]["validation"]["d_loss"] == records[-1]["validation/d_loss"]


@pytest.mark.parametrize("told", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("collapsed", [True, False])
def test_a_run_is_warned_where_its_samples_become_alike(collapsed, told, tmp_path):
    """Collapsed: one image for all noise, or one for each class, since the first layer does not see the noise."""
    experiment, _, _ = prepare(from_flags([*SMALL, f"--config.conditional={told}"])[0])
    batch = {"image": np.zeros((8, 8, 8, 1), np.float32), "label": np.arange(8), "id": np.arange(8)}
    state = jax.jit(experiment.task.init)(jax.random.key(0), batch)
    layers = state.extra["ema"]["params"]["generator"]["decoder"]
    kernel = layers["Dense_0"]["kernel"]
    noise = np.arange(len(kernel)) < len(kernel) // (1 + told)  # its rows; those of the class follow
    layers["Dense_0"]["kernel"] = jnp.where(noise[:, None], 0.0 if collapsed else kernel, kernel)
    layers["Dense_1"]["kernel"] *= 30.0  # black and white
    hooks = experiment.watch(tmp_path)
    for count in range(1, PATIENCE + 1):
        moment = Moment(2 * count, 2 * count, 2 * count - 2, state, 1, 1.0, None, {}, [])
        for hook in hooks:
            hook(moment)
        assert len(moment.warnings) == (collapsed and count == PATIENCE)
    assert (moment.scalars["samples/diversity"] < 1e-3 < moment.scalars["real/diversity"]) == collapsed
    assert all("mode collapse" in text for text in moment.warnings)


def test_the_default_config_is_evaluated_often_enough_for_its_alarms():
    train = from_flags(SMALL[:1])[0]["train"]
    assert train["steps"] // train["eval_every"] >= PATIENCE


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--config.train.patience=2"], "train.patience needs a metric to wait for"),
        (
            ["--config.discriminator={'name': 'ConvCritic', 'norm': 'batch'}", "--config.gradient_penalty=10.0"],
            "config.gradient_penalty and discriminator.norm = 'batch'",
        ),
        (
            ["--config.discriminator={'name': 'ConvCritic', 'norm': 'batch'}"],
            "config.r1 and discriminator.norm = 'batch'",
        ),
        (["--config.critic_steps=3"], "critic_steps = 3 does not divide a batch of 8 examples"),
        (["--config.loss.name=hinged"], "no such name in jaxrec.losses.adversarial. Did you mean 'hinge'? There are"),
        (["lr_find"], "lr_find follows one loss, and this experiment has several"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_go_is_refused_in_one_line(flags, said, tmp_path, capsys):
    assert launch.main([*SMALL, f"--workdir={tmp_path}/run", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
