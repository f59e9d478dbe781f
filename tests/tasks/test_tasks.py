"""What every experiment keeps, whatever it learns: resume to the bit, any devices, exact evaluation, one compile."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

import launch
from experiments.commands.run import run
from experiments.experiment import prepare
from experiments.settings.flags import from_flags
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.engine.program import compile_task
from jaxrec.sharding import data_parallel

ROOT = pathlib.Path(__file__).parents[2]

# An experiment's default config, made small.
SMALL = {
    "classify": ("digits_cnn", "--config.model.widths=(4,)", "--config.model.hidden=(8,)"),
    "autoencode": ("digits_autoencoder", "--config.model.widths=(8,)", "--config.model.latent=4"),
    "vae": ("digits_vae", "--config.model.widths=(8,)", "--config.model.latent=4", "--config.nll_samples=2"),
    "gan": ("digits_gan", "--config.generator.widths=(8,)", "--config.discriminator.widths=(8,)"),
}
# What eight devices share. Under pmap, what is drawn from a step's key differs: a GAN's noise, not an example's own.
WAYS = {"classify": {}, "autoencode": {"rule": "fsdp"}, "vae": {"parallel": "pmap"}, "gan": {"rule": "fsdp"}}
TRAIN = (
    *("--config.train.epochs=None", "--config.train.steps=6"),
    *("--config.train.batch_size=48", "--config.train.log_every=1", "--config.train.eval_every=3"),
)


def flags_of(name: str) -> list[str]:
    config, *flags = SMALL[name]
    return [f"--config={ROOT}/configs/{config}.py", *TRAIN, *flags]


@pytest.fixture(scope="module", params=SMALL)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def flags(name) -> list[str]:
    return flags_of(name)


def compiled(flags: list[str], devices: int, **way: str):
    """(experiment, program) of a config on so many devices."""
    config, _, _ = from_flags(flags)
    experiment, _, _ = prepare(config)
    parallel = data_parallel(jax.devices()[:devices], **way)
    return experiment, compile_task(experiment.task, experiment.train, seed=0, log_every=1, parallel=parallel)


@pytest.fixture(scope="module")
def single(flags):
    """(experiment, program, the metrics of six steps, what validation says then) on one device."""
    experiment, program = compiled(flags, 1)
    return experiment, program, *learned(experiment, program)


def learned(experiment, program) -> tuple[list[dict], dict]:
    state, history = program.init(), []
    for step in range(6):
        state, means = program.train(state, step, step + 1)
        history.append(means)
    return history, program.evaluate(state, experiment.splits["validation"])


def assert_close(one: dict, other: dict, rtol: float) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, rtol=rtol, atol=rtol, err_msg=name)


def test_steps_and_evaluations_are_those_of_one_device(name, flags, single):
    _, _, history, validation = single
    experiment, program = compiled(flags, 8, **WAYS[name])
    other_history, other_validation = learned(experiment, program)
    for one, other in zip(history, other_history, strict=True):
        assert_close(one, other, 1e-4)
    assert_close(validation, other_validation, 1e-3)


def test_each_step_function_is_compiled_once(single):
    _, program, _, _ = single
    assert program.compiled == ["train_step", "init", "eval_step"]


def test_an_evaluation_does_not_depend_on_the_batches(flags, single):
    experiment, program, _, _ = single
    whole = program.evaluate(program.init(), experiment.splits["validation"])
    experiment, program = compiled([*flags, "--config.train.batch_size=40"], 1)
    assert_close(whole, program.evaluate(program.init(), experiment.splits["validation"]), 1e-5)


@pytest.mark.slow  # tests/test_launch.py and tests/engine/test_loop.py have the quick forms
def test_a_resumed_run_is_the_unbroken_run(flags, tmp_path, capsys):
    """To the bit: metrics.jsonl, result.json and all that the newest checkpoint holds."""
    assert launch.main([*flags, f"--workdir={tmp_path}/whole"]) == 0, capsys.readouterr().err
    config, _, _ = from_flags(flags)
    run(config, tmp_path / "parts", until=3, finish=False)
    assert launch.main([*flags, f"--workdir={tmp_path}/parts"]) == 0
    assert f"Resuming {tmp_path}/parts at step 3" in capsys.readouterr().out
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def assert_same_run(one: pathlib.Path, other: pathlib.Path) -> None:
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    first, second = (json.loads((folder / "result.json").read_text()) for folder in (one, other))
    assert (first["metrics"], first["step"]) == (second["metrics"], second["step"])
    first, second = (stored(folder) for folder in (one, other))
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for leaf, same in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert np.asarray(leaf).tobytes() == np.asarray(same).tobytes()


def stored(workdir: pathlib.Path):
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.read(checkpoints.latest())


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_killed_run_goes_on_to_the_same_bits(name, tmp_path):
    flags = [*flags_of(name), "--config.train.steps=60", "--config.train.eval_every=5"]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}

    def command(folder: str) -> list[str]:
        return [sys.executable, "launch.py", *flags, f"--workdir={tmp_path / folder}"]

    subprocess.run(command("whole"), cwd=ROOT, env=environment, check=True, capture_output=True)
    process = subprocess.Popen(command("killed"), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("step 22/"):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    done = subprocess.run(command("killed"), cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert "Resuming" in done.stdout
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
