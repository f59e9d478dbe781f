"""A generator judged by a recogniser, through the launcher: features, distances, samples, files of both."""

import functools
import hashlib
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import launch
from experiments import classify, features, stored
from experiments.experiment import prepare
from experiments.images import read_images
from experiments.judge import judge_of, train_images_like
from experiments.settings.flags import from_flags
from experiments.stored import weights_of
from jaxrec import metrics, models
from jaxrec.data import transforms
from jaxrec.data.keys import NOISE as CODE_NOISE
from jaxrec.data.keys import example_keys
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.errors import InputError
from jaxrec.metrics import distances
from jaxrec.output.records import read
from jaxrec.tasks.task import State, Task

ROOT = pathlib.Path(__file__).parents[2]
SMALL = [
    f"--config={ROOT}/configs/digits_cnn.py",
    "--config.train.batch_size=64",
    "--config.train.epochs=None",
    "--config.train.log_every=5",
]
MLP = "--config.model={'name': 'MLP', 'widths': (16,)}"
NOISE = 0.2


def result_of(folder: pathlib.Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def content_of(folder: pathlib.Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock")
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("runs") / "recogniser"
    ema = "--config.updates.ema=0.9"
    assert launch.main([*SMALL, MLP, ema, "--config.train.steps=60", f"--workdir={folder}"]) == 0
    return folder


def forward(folder: pathlib.Path, image: np.ndarray) -> dict[str, np.ndarray]:
    """What the recogniser makes of uint8 images, in numpy, from its checkpoint and its notes."""
    notes = result_of(folder)["notes"]
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        params = checkpoints.read(result_of(folder)["step"])["extra"]["ema"]["params"]
    seen = (image / 255 - np.array(notes["mean"])) / np.array(notes["std"])
    hidden, last = (jax.device_get(params[name]) for name in ("Dense_0", "Dense_1"))
    layer = np.maximum(seen.reshape(len(image), -1) @ hidden["kernel"] + hidden["bias"], 0)
    return {"features": layer, "logits": layer @ last["kernel"] + last["bias"]}


def test_features_equal_an_independent_forward_pass(recogniser, digits):
    found = features.features_of(str(recogniser), (8, 8, 1))
    ids = digits.splits["test"]
    rows, wanted = found.of(digits.image[ids]), forward(recogniser, digits.image[ids])
    for name in ("features", "logits"):
        np.testing.assert_allclose(rows[name], wanted[name], rtol=1e-4, atol=1e-4)
    accuracy = result_of(recogniser)["metrics"]["test"]["ema_accuracy"]
    assert accuracy > 0.5
    assert accuracy == pytest.approx((rows["logits"].argmax(-1) == digits.label[ids]).mean())
    assert found.notes["test_accuracy"] == accuracy
    assert found.notes["average"]
    assert found.notes["layer"] == "input of the last dense layer, D = 16; logits, K = 10"


def test_generated_images_are_rounded_as_a_file_would_be(recogniser, digits):
    for folder in (str(recogniser), None):
        rows = jax.jit(features.features_of(folder, (8, 8, 1)).rows)
        stored = np.float32(digits.image[:9]) / 255
        moved = np.clip(stored + np.float32(0.4 / 255) * np.where(np.arange(8) % 2, 1, -1)[None, None, :, None], 0, 1)
        assert (moved != stored).any()
        for one, other in zip(jax.tree.leaves(rows(stored)), jax.tree.leaves(rows(moved)), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(rows(stored)["pixels"], stored.reshape(9, -1), rtol=1e-6)


@pytest.mark.parametrize(
    ("network", "width"),
    [
        (models.MLP(widths=(7, 5)), 5),
        (models.CNN(widths=(2,), hidden=(6,)), 6),
        (models.CNN(widths=(3,), hidden=(), padding="SAME"), 16 * 16 * 3),
        (models.WideResNet(depth=10, widen=1), 64),
        (models.RNN(hidden=9, bidirectional=True), 18),
        (models.ViT(depth=1, width=12, heads=2), 12),
        (models.CCT(depth=1, width=14, heads=2), 14),  # a dense layer pools its tokens as well
        (models.WhitenedCNN(widths=(4, 4, 11)), 11),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_layer_before_the_logits_is_found_in_every_kind_of_network(network, width):
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(lambda image: network.init(jax.random.key(0), image, train=False), image)
    rows = jax.eval_shape(lambda *inputs: features.last_layers(network, *inputs), variables, image)
    assert {name: value.shape for name, value in rows.items()} == {"features": (2, width), "logits": (2, 10)}


def images_of(mean, keys):
    """Images [N, 8, 8, 1] around a mean: what the generator of these tests makes."""
    noise = jax.vmap(lambda key: jax.random.normal(key, (8, 8, 1)))(keys)
    return mean[None] + NOISE * noise  # not all in [0, 1]


def generator(original, folder, by_class=False):
    """A `build` of the same arguments as a recogniser's, whose model learns the mean image and adds noise to it."""

    @functools.wraps(original)
    def build(**arguments):
        original(**arguments)  # so that all arguments are read
        images = read_images(arguments["data"], arguments["train"], seed=0)
        shuffled, splits = images.batches(transforms.unit_range, transforms.unit_range)
        judge = judge_of(folder, images.dataset)

        def init(key, batch):
            return State(jnp.zeros((), jnp.int32), {"mean": jnp.zeros(batch["image"].shape[1:])}, (), {})

        def train_step(state, batch, key):
            mean = 0.5 * (state.params["mean"] + batch["image"].mean(0))
            loss = {"loss": jnp.square(batch["image"] - mean[None]).mean((1, 2, 3))}
            return state.replace(step=state.step + 1, params={"mean": mean}), metrics.means(loss, batch["mask"])

        def eval_step(state, batch, key):
            keys = example_keys(batch, stream=CODE_NOISE)
            return judge.statistics(batch["image"], images_of(state.params["mean"], keys), batch["mask"])

        def generate(state, keys, labels):
            if not by_class:
                assert labels is None
                return images_of(state.params["mean"], keys)
            return jnp.broadcast_to(labels.reshape(-1, 1, 1, 1) / 255, (len(labels), 8, 8, 1))

        return classify.Experiment(
            task=Task(init, train_step, eval_step),
            steps=images.steps,
            train=shuffled,
            splits=splits,
            monitor=f"validation/{judge.monitor}",
            mode="min",
            headline=(judge.monitor, f"real_{judge.monitor}"),
            table=lambda: "",
            notes={**judge.notes},
            analyse=judge.analyse,
            generate=generate,
            conditions=images.dataset.classes if by_class else (),
        )

    return build


def test_a_recogniser_of_other_classes_is_no_judge(recogniser, digits):
    named = digits._replace(classes=[f"{name}!" for name in digits.classes])
    with pytest.raises(InputError, match=r"a recogniser of 0, 1.*these images are of 0!, 1!.*on the same data"):
        judge_of(str(recogniser), named)


@pytest.fixture(scope="module")
def generated(recogniser, tmp_path_factory) -> pathlib.Path:
    """A run of the generator, judged by the recogniser."""
    folder = tmp_path_factory.mktemp("runs") / "generator"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classify, "build", generator(classify.build, str(recogniser)))
        flags = ["--config.train.steps=10", "--config.train.eval_every=5", f"--workdir={folder}"]
        assert launch.main([*SMALL, *flags]) == 0
    return folder


@pytest.fixture
def as_generator(monkeypatch):
    """Lets a config of a recogniser build the generator."""
    monkeypatch.setattr(classify, "build", generator(classify.build, None))


def test_the_distance_in_training_is_that_of_the_checkpoint(recogniser, generated, digits):
    result = result_of(generated)
    (record,) = [record for record in read(generated / "metrics.jsonl") if record["step"] == result["step"]]
    found = result["metrics"]["validation"]
    names = [name for kind in ("features", "logits") for name in distances.MEASURES[kind]]
    assert {name: record[f"validation/{name}"] for name in names} == {name: found[name] for name in names}
    # Once more from what lies on disk: the mean image, each example's noise, the recogniser in numpy.
    (learned, step, average), ids = weights_of(generated, "run"), digits.splits["validation"]
    assert (step, average) == (result["step"], False)
    keys = example_keys({"id": ids, "seed": np.zeros(len(ids), np.uint32)}, stream=CODE_NOISE)
    made = np.clip(np.asarray(images_of(learned["params"]["mean"], keys)), 0, 1)
    wanted = distances.compare(
        forward(recogniser, digits.image[ids]), forward(recogniser, np.round(made * 255).astype(np.uint8))
    )
    assert wanted["frechet"] > 1
    for name in ("frechet", "frechet_logits", "classifier_score"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-3), name


@pytest.mark.slow
@pytest.mark.parametrize("config", ["digits_gan", "digits_vae"])
def test_whoever_is_told_the_class_is_judged_by_class(config, recogniser, digits, tmp_path):
    """The numbers of a run with a moving average, from its checkpoint, its noise and the recogniser in numpy."""
    flags = [
        *(f"--config={ROOT}/configs/{config}.py", f"--workdir={tmp_path}/run", f"--config.features={recogniser}"),
        *(f"--config.train.{name}" for name in ("steps=6", "epochs=None", "log_every=2", "eval_every=2")),
        *(f"--config.{name}" for name in ("conditional=True", "updates.ema=0.5")),
    ]
    small = {
        "digits_gan": ("generator={'name': 'DenseDecoder', 'widths': (8,)}", "discriminator={'name': 'DenseCritic'}"),
        "digits_vae": ("model.widths=(8,)", "nll_samples=2", "nll_images=4"),
    }
    assert launch.main([*flags, *(f"--config.{name}" for name in small[config])]) == 0
    result, ids = result_of(tmp_path / "run"), digits.splits["test"]
    test, others = result["metrics"]["test"], train_images_like(digits, digits.label[ids])
    floor = distances.compare(forward(recogniser, digits.image[ids]), forward(recogniser, digits.image[others]))
    assert test["real_frechet"] == pytest.approx(floor["frechet"], rel=1e-3)

    learned, step, average = weights_of(tmp_path / "run", "run")
    assert (step, average) == (result["step"], True)
    experiment, _, _ = prepare(from_flags(flags[:1] + flags[2:] + [f"--config.{name}" for name in small[config]])[0])
    state = State(jnp.asarray(step), learned["params"], (), learned["extra"])
    keys = example_keys({"id": ids, "seed": np.zeros(len(ids), np.uint32)}, stream=CODE_NOISE)
    made = np.clip(jax.jit(experiment.generate)(state, keys, jnp.asarray(digits.label[ids])), 0, 1)
    wanted = distances.compare(
        forward(recogniser, digits.image[ids]), forward(recogniser, np.round(made * 255).astype(np.uint8))
    )
    if config == "digits_vae":
        assert test["frechet"] == pytest.approx(wanted["frechet"], rel=1e-3)
        return
    assert test["ema_frechet"] == pytest.approx(wanted["frechet"], rel=1e-3)
    assert test["frechet"] != pytest.approx(test["ema_frechet"], rel=1e-3)  # of the state beside its average
    seen = {record["step"]: record["validation/ema_frechet"] for record in read(tmp_path / "run" / "metrics.jsonl")}
    assert len(seen) == 3
    assert result["step"] == min(seen, key=seen.get)


def test_what_a_number_rests_on_lies_beside_it(recogniser, generated, digits):
    result = result_of(generated)
    notes, test = result["notes"]["features"], result["metrics"]["test"]
    assert (notes["run"], notes["rounding"], notes["data"]["name"]) == (str(recogniser), "uint8", "digits")
    assert notes["test_accuracy"] == result_of(recogniser)["metrics"]["test"]["ema_accuracy"]
    assert notes["images"] == {split: len(ids) for split, ids in digits.splits.items()}
    others = np.random.default_rng(0).choice(digits.splits["train"], 360, replace=False)
    ids = digits.splits["test"]
    wanted = distances.compare(forward(recogniser, digits.image[ids]), forward(recogniser, digits.image[others]))
    assert test["real_frechet"] == pytest.approx(wanted["frechet"], rel=1e-3)
    assert 0 < test["real_frechet"] < test["frechet"]
    assert test["real_classifier_score"] > test["classifier_score"]
    assert "real_frechet" not in result["metrics"]["train"]


def test_samples_are_those_of_the_checkpoint_and_touch_nothing(generated, as_generator, capsys):
    before = content_of(generated)
    command = ["sample", f"--workdir={generated}", "--images=11", "--seed=3"]
    assert launch.main(command) == 0
    step = result_of(generated)["step"]
    file = generated / f"samples_step{step}_seed3_11.npz"
    assert str(file) in capsys.readouterr().out
    once = content_of(generated)
    assert set(once) - set(before) == {str(file), str(file.with_suffix(".png"))}
    assert launch.main(command) == 0
    assert content_of(generated) == once
    assert {name: once[name] for name in before} == before
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(3), np.arange(11))
    made = np.asarray(images_of(weights_of(generated, "run")[0]["params"]["mean"], keys))
    with np.load(file) as arrays:
        assert set(arrays.files) == {"image", "seed", "step"}
        np.testing.assert_array_equal(arrays["image"], np.round(np.clip(made, 0, 1) * 255).astype(np.uint8))
        many = arrays["image"]
    assert launch.main([*command[:2], "--images=2", "--seed=3"]) == 0  # an image does not depend on how many are made
    with np.load(generated / f"samples_step{step}_seed3_2.npz") as arrays:
        np.testing.assert_array_equal(arrays["image"], many[:2])
    assert launch.main([*command[:2], "--classes=1"]) == 2
    assert "--classes=1: this model is not class-conditional" in capsys.readouterr().err


def test_classes_are_taken_in_turn(generated, monkeypatch, capsys):
    monkeypatch.setattr(classify, "build", generator(classify.build, None, by_class=True))
    for flags, name, wanted in [
        (["--classes=7,0,2"], "_class7_class0_class2", [7, 0, 2, 7, 0]),
        (["--classes=4"], "_class4", [4, 4, 4, 4, 4]),
        ([], "", [0, 1, 2, 3, 4]),
    ]:
        assert launch.main(["sample", f"--workdir={generated}", "--images=5", *flags]) == 0
        file = generated / f"samples_step{result_of(generated)['step']}_seed0_5{name}.npz"
        with np.load(file) as arrays:
            np.testing.assert_array_equal(arrays["label"], wanted)
            np.testing.assert_array_equal(arrays["image"][:, 0, 0, 0], wanted)
    assert launch.main(["sample", f"--workdir={generated}", "--classes=1,10"]) == 2
    assert "--classes=(1, 10): this model makes classes 0 to 9" in capsys.readouterr().err


def numbers_in(text: str) -> dict[str, list[float]]:
    """The table of `distance`: name -> numbers."""
    rows = [line.replace("│", " ").split() for line in text.splitlines() if "│" in line]
    return {name: [float(value) for value in values] for name, *values in rows}


@pytest.mark.parametrize("by_class", [True, False])
def test_the_floors_images_are_of_train_and_if_asked_of_the_splits_classes(digits, by_class):
    test = digits.splits["test"]
    like = digits.label[test] if by_class else len(test)
    found = train_images_like(digits, like)
    counts = [np.bincount(digits.label[ids], minlength=10) for ids in (found, test)]
    assert len(found) == len(test)
    assert np.array_equal(*counts) == by_class
    assert set(found) <= set(digits.splits["train"])
    assert len(set(found)) == len(found)  # none twice: train has enough
    few = digits._replace(splits={**digits.splits, "train": digits.splits["train"][:40]})
    assert len(train_images_like(few, like)) == len(found)


def test_distances_of_files(recogniser, digits, tmp_path, capsys):
    rng = np.random.default_rng(0)
    image = np.clip(digits.image[:40] + rng.integers(0, 90, (40, 8, 8, 1)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "made.npz", image=image)
    made, real = forward(recogniser, image), forward(recogniser, digits.image[digits.splits["test"]])
    wanted = distances.compare(real, made)

    capsys.readouterr()
    assert launch.main(["distance", f"--generated={tmp_path}/made.npz", f"--features={recogniser}"]) == 0
    said = capsys.readouterr().out
    assert "40 generated and 360 real images; input of the last dense layer, D = 16" in said
    found = numbers_in(said)
    assert found.keys() == wanted.keys()
    for name in ("frechet", "frechet_logits", "classifier_score"):
        assert found[name][0] == pytest.approx(wanted[name], rel=1e-3, abs=1e-4)
    others = np.random.default_rng(0).choice(digits.splits["train"], 40, replace=False)  # as many as were made
    floor = distances.compare(real, forward(recogniser, digits.image[others]))
    assert found["frechet"][1] == pytest.approx(floor["frechet"], rel=1e-3, abs=1e-4)

    # Of labelled images, the floor has the classes.
    np.savez(tmp_path / "made.npz", image=image, label=np.full(40, 3))
    assert launch.main(["distance", f"--generated={tmp_path}/made.npz", f"--features={recogniser}"]) == 0
    threes = train_images_like(digits, np.full(40, 3))
    assert set(digits.label[threes]) == {3}
    floor = distances.compare(real, forward(recogniser, digits.image[threes]))
    found = numbers_in(capsys.readouterr().out)["frechet"]
    assert found[1] == pytest.approx(floor["frechet"], rel=1e-3, abs=1e-4)

    # Features from elsewhere, and pixels.
    np.savez(tmp_path / "features.npz", **made)
    np.savez(tmp_path / "real.npz", features=real["features"])
    np.savez(tmp_path / "images.npz", image=digits.image[:60])
    files = [f"--generated={tmp_path}/features.npz", f"--real={tmp_path}/real.npz"]
    assert launch.main(["distance", *files]) == 0
    assert numbers_in(capsys.readouterr().out)["frechet"] == pytest.approx([wanted["frechet"]], rel=1e-3, abs=1e-4)
    files = [f"--generated={tmp_path}/made.npz", f"--real={tmp_path}/images.npz"]
    assert launch.main(["distance", *files]) == 0
    pixels = [np.float64(images.reshape(len(images), -1)) / 255 for images in (digits.image[:60], image)]
    found = numbers_in(capsys.readouterr().out)
    assert set(found) == set(distances.MEASURES["pixels"])
    assert found["frechet_pixels"] == pytest.approx([distances.frechet(*pixels)], rel=1e-3, abs=1e-4)


def test_bad_input_is_one_line(recogniser, generated, tmp_path, monkeypatch, capsys):
    np.savez(tmp_path / "made.npz", image=np.zeros((9, 8, 8, 1), np.uint8))
    np.savez(tmp_path / "wide.npz", image=np.zeros((9, 8, 9, 1), np.uint8))
    np.savez(tmp_path / "floats.npz", image=np.zeros((9, 8, 8, 1)))
    np.savez(tmp_path / "features.npz", features=np.zeros((9, 4)))
    np.savez(tmp_path / "labels.npz", image=np.zeros((9, 8, 8, 1), np.uint8), label=np.zeros(3, int))
    (tmp_path / "text.npz").write_text("no arrays")
    unfinished = tmp_path / "unfinished"
    (unfinished / "checkpoints").mkdir(parents=True)
    made, features_flag = f"--generated={tmp_path}/made.npz", f"--features={recogniser}"
    for flags, said in [
        (["sample"], "--workdir=FOLDER is missing"),
        (["sample", f"--workdir={tmp_path}/none"], "no run with checkpoints is there"),
        (["sample", f"--workdir={unfinished}"], "has saved no checkpoint yet"),
        (["sample", f"--workdir={recogniser}"], "a run of 'classify' makes no images"),
        (["sample", f"--workdir={recogniser}", "--images=0"], "sample.images = 0: allowed"),
        (["sample", f"--workdir={recogniser}", "--imags=3"], "Did you mean"),
        (["sample", f"--workdir={recogniser}", "--seeds=3"], "--seeds and sample do not go together"),
        (["distance"], "distance.generated is missing"),
        (["distance", made], "--real=FILE is missing"),
        (["distance", made, f"--real={tmp_path}/none.npz"], "not an .npz file of plain arrays"),
        (["distance", made, f"--real={tmp_path}/text.npz"], "not an .npz file of plain arrays"),
        (["distance", made, f"--real={tmp_path}/floats.npz"], "needs an array 'image', uint8"),
        (["distance", made, f"--real={tmp_path}/wide.npz"], "holds no images of the shape"),
        (["distance", made, f"--real={tmp_path}/features.npz"], "holds no images of the shape"),
        (["distance", f"--generated={tmp_path}/features.npz", f"--real={tmp_path}/made.npz"], "holds no features"),
        (["distance", f"--generated={tmp_path}/features.npz", features_flag], "is for files of images"),
        (["distance", made, "--features=nowhere"], "features = 'nowhere': no run with checkpoints is there"),
        (["distance", f"--generated={tmp_path}/wide.npz", features_flag], "images of 8x8x1, these are 8x9x1"),
        (["distance", made, features_flag, "--split=train"], "distance.split = 'train': allowed is"),
        (["distance", f"--generated={tmp_path}/labels.npz", features_flag], "'label' has the shape (3,), not a number"),
    ]:
        capsys.readouterr()
        assert launch.main(flags) == 2, flags
        line = capsys.readouterr().err
        assert said in line, line
        assert line.count("\n") == 1
    older = shutil.copytree(recogniser, tmp_path / "older")
    config = json.loads((older / "config.json").read_text())
    (older / "config.json").write_text(json.dumps({**config, "gone": 1}))
    assert launch.main(["distance", made, f"--features={older}"]) == 2
    line = capsys.readouterr().err
    assert f"features = '{older}': that run's config.json cannot be used today. config.gone" in line, line
    monkeypatch.setattr(features, "result_of", lambda folder: None)
    assert launch.main(["distance", made, features_flag]) == 2
    assert "that run is not finished" in capsys.readouterr().err
    monkeypatch.setattr(stored, "config_of", lambda folder, what: {"experiment": "vae"})
    assert launch.main(["distance", made, features_flag]) == 2
    assert "a run of 'vae'. Name a run of 'classify'" in capsys.readouterr().err
