"""Several seeds, several learning rates: inputs of one program, so that each step is compiled once in all."""

import pathlib
import re

import launch

ROOT = pathlib.Path(__file__).parents[2]
SMALL = [
    f"--config={ROOT}/configs/digits_cnn.py",
    "--config.model={'name': 'MLP', 'widths': (8,), 'dropout': 0.1}",
    "--config.augment=[{'name': 'random_translation'}, {'name': 'gaussian_noise'}]",
    "--config.train.batch_size=16",
    "--config.train.epochs=None",
    "--config.train.steps=20",
    "--config.train.eval_every=20",
]


def misses(capsys, *flags: str) -> list[int]:
    """The misses of the compile cache up to the end of each run of a command."""
    assert launch.main([*SMALL, *flags]) == 0
    return [int(number) for number in re.findall(r"Compile cache: \d+ hits, (\d+) misses", capsys.readouterr().out)]


def test_many_seeds_and_many_rates_compile_each_step_once(tmp_path, capsys):
    first, *others = misses(capsys, f"--workdir={tmp_path}/seeds", "--seeds=2")
    assert others == [first]
    for rate in (1e-3, 1e-2):
        flags = [f"--workdir={tmp_path}/{rate}", f"--config.optimizer.learning_rate.init_value={rate}"]
        assert misses(capsys, *flags) == [first]
    # The count sees what is compiled anew: another width is another program.
    flags = [f"--workdir={tmp_path}/wider", "--config.model={'name': 'MLP', 'widths': (9,)}"]
    assert misses(capsys, *flags) > [first]
