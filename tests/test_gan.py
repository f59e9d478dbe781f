"""The experiment through launch.py: what a run leaves behind, and what is refused."""

import json

import pytest

import launch
from jaxrec.records import read

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


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--config.train.patience=2"], "train.patience needs a metric to wait for"),
        (
            ["--config.discriminator={'name': 'ConvCritic', 'norm': 'batch'}", "--config.gradient_penalty=10.0"],
            "config.gradient_penalty and discriminator.norm = 'batch'",
        ),
        (["--config.critic_steps=3"], "critic_steps = 3 does not divide a batch of 8 examples"),
        (["--config.loss.name=hinged"], "no such name in jaxrec.adversarial. Did you mean 'hinge'? There are: minimax"),
        (["lr_find"], "lr_find follows one loss, and this experiment has several"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_go_is_refused_in_one_line(flags, said, tmp_path, capsys):
    assert launch.main([*SMALL, f"--workdir={tmp_path}/run", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
