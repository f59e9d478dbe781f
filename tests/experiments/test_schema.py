"""Config checks: what is wrong is said in one line, before JAX starts."""

import copy
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from experiments.settings.flags import _load, from_flags
from experiments.settings.kinds import KINDS
from experiments.settings.schema import _section, check
from experiments.settings.source import lookup
from experiments.settings.specs import SPECS
from jaxrec import types
from jaxrec.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
NAN, INF = float("nan"), float("inf")

GOOD = {
    "experiment": "classify",
    "train": {"batch_size": 8, "steps": 3},
    "data": {"name": "digits"},
    "model": {"name": "CNN", "widths": (4, (8, 8))},
    "loss": {"name": "softmax_cross_entropy", "label_smoothing": 0.1},
    "optimizer": {"name": "adamw", "learning_rate": {"name": "cosine_decay_schedule", "init_value": 1e-3}},
    "updates": {"l2": 1e-4},
}

# (key, value, what the line must say besides both)
BAD = [
    ("experiment", "clasify", "Did you mean 'classify'"),
    ("experiment", None, "allowed is autoencode, classify, gan, vae"),
    ("exprmnt", 1, "Did you mean 'experiment'|takes no such key"),
    ("sed", 0, "Did you mean 'seed'"),
    ("seed", -1, "a whole number from 0 to"),
    ("seed", 2**32, "a whole number from 0 to"),  # JAX would take it for 0
    ("seed", 1.0, "a whole number"),
    ("seed", True, "a whole number"),
    ("seed", "0", "a whole number"),
    ("updates", 3, "a section with keys accumulate, freeze, clip_norm"),
    ("updates.clip_norm", 0.0, "a number above 0 or None"),
    ("updates.clip_norm", "1", "a number above 0 or None"),
    ("updates.l2", -1e-4, "a number, 0 or more"),
    ("updates.l2", NAN, "a number, 0 or more"),
    ("updates.l2", True, "a number, 0 or more"),
    ("updates.emma", 0.9, "Did you mean 'ema'"),
    ("train", None, "a section with keys batch_size"),
    ("train", 3, "a section with keys batch_size"),
    ("train.batch_size", 0, "a whole number, 1 or more"),
    ("train.batch_size", 8.0, "a whole number, 1 or more"),
    ("train.batch_size", "8", "a whole number, 1 or more"),
    ("train.batchsize", 8, "Did you mean 'batch_size'"),
    ("train.steps", 0, "a whole number, 1 or more"),
    ("train.steps", -5, "a whole number, 1 or more"),
    ("train.steps", None, "exactly one"),
    ("train.epochs", 2, "exactly one"),
    ("train.epochs", 0, "a number above 0"),
    ("train.epochs", INF, "a number above 0"),
    ("train.log_every", 0, "a whole number, 1 or more"),
    ("train.eval_every", 1.5, "a whole number, 1 or more or None"),
    ("train.keep", 0, "a whole number, 1 or more"),
    ("train.rule", "fdsp", "Did you mean 'fsdp'"),
    ("train.parallel", "pjit", "'jit', 'pmap'"),
    ("train.parallel", True, "'jit', 'pmap'"),
    ("data", "digits", "a section with a `name` out of jaxrec.data.sources"),
    ("data.name", "digit", "Did you mean 'digits'"),
    ("data.name", 3, "no such name in jaxrec.data.sources"),
    ("data.validation", 1.0, "a number from 0 to below 1"),
    ("data.validation", -0.1, "a number from 0 to below 1"),
    ("data.validation", "0.1", "a number from 0 to below 1"),
    ("data.path", "x.npz", "digits takes no such key"),
    ("model.name", "CNNN", "Did you mean 'CNN'"),
    ("model.name", "jnp", "no such name in jaxrec.models"),
    ("model.widths", 32, "a sequence of whole numbers"),
    ("model.widths", (32, 0), "a sequence of whole numbers"),
    ("model.widths", (32, ()), "a sequence of whole numbers"),
    ("model.widths", (32.0,), "a sequence of whole numbers"),
    ("model.widhts", (32,), "Did you mean 'widths'"),
    ("model.hidden", (8, (4,)), "a sequence of whole numbers"),
    ("model.kernel", 0, "a whole number, 1 or more"),
    ("model.pool", "maximum", "'max', 'average'"),
    ("model.pool_last", 1, "True or False"),
    ("model.pool_last", "False", "True or False"),
    ("model.dropout", 1, "a number from 0 to below 1"),
    ("model.dropout", NAN, "a number from 0 to below 1"),
    ("model.norm", "btach", "Did you mean 'batch'"),
    ("model.norm", None, "'none', 'batch', 'group'"),
    ("model.dtype", "float16", "'float32', 'bfloat16'"),
    ("model.classes", 10, "takes no such key"),  # the data say how many
    ("loss.name", "softmax_entropy", "Did you mean 'softmax_cross_entropy'"),
    ("loss.label_smoothing", 1.5, "a number from 0 to below 1"),
    ("loss.smoothing", 0.1, "Did you mean 'label_smoothing'"),
    ("optimizer.name", "adamm", "Did you mean 'adam"),
    ("optimizer.name", "chain", "no such name in jaxrec.optim.optimizers or optax"),
    ("optimizer.learning_rate", -0.1, "a number, 0 or more"),
    ("optimizer.learning_rate", "0.1", "a number, 0 or more"),
    ("optimizer.learning_rate", True, "a number, 0 or more"),
    ("optimizer.learning_rate", None, "a number, 0 or more"),
    ("optimizer.learning_rat", 0.1, "Did you mean 'learning_rate'"),
    ("optimizer.weight_decay", -1, "a number, 0 or more"),
    ("optimizer.nesterov", 1, "True or False"),
    ("optimizer.name", "scale_by_path", "no such name in jaxrec.optim.optimizers or optax"),
    ("optimizer.momentum", 0.9, "adamw takes no such key"),
    ("optimizer.learning_rate.name", "cosine", "no such name in jaxrec.optim.schedules or optax.schedules"),
    ("optimizer.learning_rate.init_value", -1e-3, "a number, 0 or more|a number"),
    ("optimizer.learning_rate.init_valu", 1e-3, "Did you mean 'init_value'"),
]


def changed(config: dict, key: str, value: object) -> dict:
    config = copy.deepcopy(config)
    *path, last = key.split(".")
    section = config
    for part in path:
        section = section[part]
    section[last] = value
    return config


def without(config: dict, key: str) -> dict:
    config = copy.deepcopy(config)
    *path, last = key.split(".")
    section = config
    for part in path:
        section = section[part]
    del section[last]
    return config


def paths(config: dict, prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{key}.")


def test_a_good_config_comes_back_complete():
    resolved = check(GOOD)
    assert resolved["model"] == {
        "name": "CNN",
        "widths": (4, (8, 8)),
        "kernel": 3,
        "pool": "max",
        "pool_last": True,
        "activation": "relu",
        "hidden": (64,),
        "dropout": 0.0,
        "norm": "none",
        "padding": "VALID",
        "dtype": "float32",
    }
    assert resolved["optimizer"]["b1"] == 0.9
    assert resolved["seed"] == 0
    assert check(resolved) == resolved


@pytest.mark.parametrize(("key", "value", "said"), BAD, ids=[f"{key}={value}" for key, value, _ in BAD])
def test_bad_values_are_refused_in_one_line(key, value, said):
    with pytest.raises(InputError, match=said) as caught:
        check(changed(GOOD, key, value))
    line = str(caught.value)
    assert "\n" not in line
    assert f"config.{key}" in line
    assert repr(value) in line


@pytest.mark.parametrize(
    "key", ["train", "train.batch_size", "data", "data.name", "model", "loss", "optimizer.learning_rate"]
)
def test_missing_keys_are_named(key):
    with pytest.raises(InputError, match=rf"config\.{key} is missing"):
        check(without(GOOD, key))


def test_every_argument_kind_is_checked():
    """A kind that the checker does not know would let anything pass."""
    plain = ("Widths", "Blocks", "Milestones", "Factors", "Weights", "Labels")
    kinds = {name for name, value in vars(types).items() if value in (int, float, str) or name in plain}
    assert {"Count", "Pattern", *plain} <= kinds
    assert kinds <= set(KINDS)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_letter_dropped_from_any_key_of_any_config_is_caught(file):
    """Every letter of every key: in the file, and on the command line."""
    config = _load(str(file))
    for key in paths(config):
        *path, last = key.split(".")
        for position in range(len(last)):
            wrong = ".".join([*path, last[:position] + last[position + 1 :]])
            if wrong in paths(check(config)) or not wrong.rpartition(".")[2]:
                continue  # "steps" without its "s" would be another key only if there were one
            value = config
            for part in key.split("."):
                value = value[part]
            with pytest.raises(InputError) as caught:
                check(changed(without(config, key), wrong, value))
            assert "config." in str(caught.value)
    known = paths(check(config))
    for key in known:
        if key[:-1] not in known:  # ResNet has blocks and a block
            with pytest.raises(InputError, match="no such key"):
                from_flags([f"--config={file}", f"--config.{key[:-1]}=1"])


SIGNATURES = """
def flip(image, key, *, share: Share = 0.5):
    pass

def crop(image, key, *, padding: Count):
    pass

def cutmix(batch, keys, *, strength: Positive = 1.0):
    pass

def moments(image):
    pass

def train(*, augment: AugmentSpecs = (), mix: MixSpec | None = None, factors: Factors = (),
          freeze: Pattern | None = None, layer_decay: Share | None = None, optimizer: OptimizerSpec | None = None,
          milestones: Milestones = (0.5,), weights: Literal["balanced"] | Weights | None = None):
    pass
"""


@pytest.fixture
def resolve(tmp_path, monkeypatch):
    """Checks the arguments of `train` above, whose augmentations and mixes are those beside it."""
    (tmp_path / "signatures").mkdir()
    (tmp_path / "signatures" / "__init__.py").write_text(SIGNATURES)
    monkeypatch.syspath_prepend(tmp_path)
    for kind in ("AugmentSpecs", "MixSpec"):
        monkeypatch.setitem(SPECS, kind, SPECS[kind]._replace(modules=("signatures",)))
    return lambda **values: _section("config", values, lookup("signatures", "train"), "train")


def test_a_sequence_of_sections_comes_back_complete(resolve):
    resolved = resolve(augment=[{"name": "crop", "padding": 4}, {"name": "flip"}], mix={"name": "cutmix"})
    assert resolved["augment"] == ({"name": "crop", "padding": 4}, {"name": "flip", "share": 0.5})
    assert resolved["mix"] == {"name": "cutmix", "strength": 1.0}
    assert resolve(**resolved) == resolved
    assert resolve()["augment"] == ()
    assert resolve()["mix"] is None


def test_muon_and_schedules_of_the_run_come_back_complete(resolve):
    rate = {"name": "warmup_cosine", "peak": 0.02}
    optimizer = resolve(optimizer={"name": "muon", "learning_rate": rate, "adam_learning_rate": rate})["optimizer"]
    assert optimizer["learning_rate"] == {"name": "warmup_cosine", "peak": 0.02, "warmup": 0.05, "end": 0.0}
    assert optimizer["adam_learning_rate"] == optimizer["learning_rate"]
    assert (optimizer["ns_steps"], optimizer["fallback"]) == (5, None)
    assert "weight_decay_mask" not in optimizer


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("augment", {"name": "flip"}, "= {'name': 'flip'}: allowed is a sequence of sections with a `name` out of"),
        ("augment", "flip", " = 'flip': allowed is a sequence of sections"),
        ("augment", ("flip",), r"\[0\] = 'flip': allowed is a section with a `name`"),
        ("augment", ({"name": "flip"}, {"name": "flop"}), r"\[1\]\.name = 'flop': .* Did you mean 'flip'"),
        ("augment", ({"name": "moments"},), r"\[0\]\.name = 'moments': no such name"),
        ("augment", ({},), r"\[0\]\.name is missing"),
        ("augment", ({"name": "crop"},), r"\[0\]\.padding is missing"),
        ("augment", ({"name": "crop", "paddin": 4},), r"\[0\]\.paddin = 4: .* Did you mean 'padding'"),
        ("augment", ({"name": "flip", "key": 0},), r"\[0\]\.key = 0: flip takes no such key"),
        ("augment", ({"name": "flip", "share": 1.1},), r"\[0\]\.share = 1\.1: allowed is a number from 0 to 1\."),
        ("augment", None, " = None: allowed is a sequence of sections"),
        ("mix", 3, " = 3: allowed is a section with a `name`"),
        ("mix", {"name": "flip"}, r"\.name = 'flip': no such name in signatures\. There are: cutmix"),
        ("mix", {"name": "cutmix", "strength": 0}, r"\.strength = 0: allowed is a number above 0"),
        ("optimizer", {"name": "muon", "learning_rate": {"name": "warmup_linear"}}, r"\.peak is missing"),
        ("optimizer", {"name": "muon", "learning_rate": 1, "fallback": "("}, r"\.fallback = .* regular expression"),
        ("freeze", "(", "a regular expression or None"),
        ("freeze", 3, "a regular expression or None"),
        ("factors", (("bias", -1.0),), "a sequence of"),
        ("factors", {"bias": 2.0}, "a sequence of"),
        ("factors", (("(", 1.0),), "a sequence of"),
        ("layer_decay", 1.1, "a number from 0 to 1 or None"),
        ("weights", "balancd", "'balanced' or a sequence of numbers, 0 or more, one of them above 0 or None"),
        ("weights", (1.0, -1.0), "'balanced' or a sequence of numbers, 0 or more, one of them above 0 or None"),
        ("weights", (), "'balanced' or a sequence of numbers, 0 or more, one of them above 0 or None"),
        ("milestones", (0.75, 0.5), "a sequence of increasing numbers from 0 to 1"),
        ("milestones", (0.5, 1.5), "a sequence of increasing numbers from 0 to 1"),
    ],
)
def test_what_is_wrong_within_sequences_and_options_is_said(resolve, key, value, said):
    with pytest.raises(InputError, match=rf"config\.{key}.*{said}") as caught:
        resolve(**{key: value})
    assert "\n" not in str(caught.value)


def test_a_typo_is_found_before_jax_is_imported():
    blocked = "import sys, runpy; sys.modules['jax'] = None; runpy.run_path('launch.py', run_name='__main__')"
    flags = ["--config=configs/digits_cnn.py", "--config.model.widhts=(3,)"]
    done = subprocess.run(
        [sys.executable, "-c", blocked, *flags], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    said = "launch.py: config.model.widhts = (3,): CNN takes no such key. Did you mean 'widths'? It takes: widths, "
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
