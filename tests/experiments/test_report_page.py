"""The page about runs: what stands in it, that it is text and needs no network, and what it says of what is missing."""

import base64
import csv
import html.parser
import io
import json
import os
import pathlib
import shlex
import shutil
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import vl_convert
from PIL import Image
from sklearn.metrics import confusion_matrix

import launch
from experiments.commands.compare import _differing
from experiments.predictor import load
from experiments.report.answers import confusion_of
from experiments.report.gather import gather
from experiments.settings.flags import from_flags
from experiments.sides import answers_of, pooled, side_of
from jaxrec.output.records import read as records_of
from jaxrec.output.workdir import owned

ROOT = pathlib.Path(__file__).parents[2]
HOSTILE = ("<script>alert(1)</script>", "b & b", '"c"')
TAGS_WITHOUT_END = {"meta", "link", "img", "input", "line"}


class Read(html.parser.HTMLParser):
    """A page as a browser would take it: elements, texts, tables, and what its scripts hold."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.scripts: list[tuple[dict, str]] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in TAGS_WITHOUT_END:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif "style" not in self.open:
            self.words.append(data)
            if {"td", "th"} & set(self.open):
                self.rows[-1][-1] += data.strip()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def held(self, name: str):
        return next(json.loads(text) for attrs, text in self.scripts if attrs.get("id") == name)

    def row(self, first: str) -> list[str]:
        return next(row[1:] for row in self.rows if row[:1] == [first])


def curves_of(chart: dict) -> list[dict]:
    """The curves of a chart: part, seed, steps and values of each."""
    (curves,) = chart["datasets"].values()
    return curves


def reported(folder: pathlib.Path, *words: object) -> tuple[str, Read]:
    file = folder / "report.html"
    assert launch.main(["report", *map(str, words), f"--out={file}"]) == 0
    text = file.read_text()
    return text, Read(text)


def made(folder: pathlib.Path, config: str = "digits_cnn", *flags: str, **files: object) -> pathlib.Path:
    """A run's folder without checkpoints, as another machine may have sent it."""
    folder.mkdir(parents=True)
    values, _, _ = from_flags([f"--config={ROOT}/configs/{config}.py", *flags])
    (folder / "config.json").write_text(json.dumps(values))
    notes = {"classes": ["a", "b"], "shape": [8, 8, 1], "mean": [0.0], "std": [1.0], "several": False}
    result = {"step": 20, "metrics": {"test": {"loss": 0.5}}, "headline": ["loss"], "training_seconds": 2.0}
    result |= {"images_per_second": 100.0, "notes": notes}
    records = [{"step": step, "train/loss": 1 / step, "validation/loss": 2 / step} for step in (10, 20)]
    environment = [
        {"command": ["launch.py", "--config=configs/x.py"], "devices": "cpu x 1", "versions": {"jax": "9.9"}}
    ]
    files = {"data": notes, "result": result, "environment": environment, "metrics": records, **files}
    for name, content in files.items():
        if name == "metrics":
            (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in content))
        elif content is not None:
            (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    """A recogniser of three classes of noise with names that are markup, trained for some steps."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    arrays = {}
    for split, examples in (("train", 64), ("validation", 32), ("test", 60)):
        label = rng.integers(3, size=examples)
        image = rng.normal(100, 60, (examples, 8, 8)) + 25 * label[:, None, None]
        arrays |= {f"x_{split}": image.clip(0, 255).astype(np.uint8), f"y_{split}": label}
    np.savez(folder / "noise.npz", classes=np.array(HOSTILE), **arrays)
    flags = [
        "train.epochs=None",
        "train.steps=20",
        "train.log_every=5",
        "train.batch_size=32",
        "train.evaluate_train=False",
    ]
    flags += ["model={'name': 'MLP', 'widths': (8,)}", f"data={{'name': 'npz', 'path': '{folder}/noise.npz'}}"]
    command = [f"--config={ROOT}/configs/digits_cnn.py", *(f"--config.{flag}" for flag in flags)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["launch.py", *command])  # what the run notes
        assert launch.main([*command, f"--workdir={folder}/run"]) == 0
    return folder


@pytest.fixture(scope="module")
def page(trained) -> tuple[str, Read]:
    return reported(trained, trained / "run", "--mistakes=3", "--methods=gradient")


@pytest.fixture(scope="module")
def answered(trained) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels of the test split, and the probabilities that the run gives them."""
    with np.load(trained / "noise.npz") as arrays:
        image, label = arrays["x_test"], arrays["y_test"]
    return image, label, np.asarray(load(trained / "run")(image[..., None]))


def test_it_needs_no_network_and_is_small(page):
    text, read = page
    assert len(text.encode()) < 1_500_000
    for tag, attrs in read.tags:
        assert attrs.get("src", "data:").startswith("data:"), tag
        assert attrs.get("href", "#").startswith(("#", "data:")), tag
    policy = next(attrs["content"] for _, attrs in read.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src 'sha256-" in policy


def test_what_a_run_names_is_text(page):
    text, read = page
    assert HOSTILE[0] not in text
    assert len(read.scripts) == 4  # two of ours and two that hold data
    assert [attrs.get("type") for attrs, _ in read.scripts] == ["application/json"] * 2 + [None] * 2
    assert read.open == []
    assert HOSTILE[0] in read.text
    assert any(HOSTILE[0] in attrs.get("aria-label", "") for _, attrs in read.tags)


def test_the_numbers_are_those_of_the_run(trained, page):
    metrics = json.loads((trained / "run/result.json").read_text())["metrics"]
    assert page[1].row("metric") == list(metrics)
    for name in ("loss", "accuracy", "f1_macro"):
        assert page[1].row(name.replace("_", " ")) == [f"{values[name]:.4f}" for values in metrics.values()]


def test_what_the_command_line_changed_is_told(page):
    assert page[1].row("train.epochs") == ["40", "None"]
    assert page[1].row("model.name") == ["CNN", "MLP"]
    assert "seed" not in [row[0] for row in page[1].rows if len(row) == 3]
    assert "--config.train.steps=20" in page[1].text


def test_the_cells_count_and_show_what_the_network_answers(page, answered):
    image, label, probabilities = answered
    held = page[1].held("pictures")[0]
    counts = confusion_matrix(label, probabilities.argmax(-1), labels=range(3))
    for row, name in enumerate(HOSTILE):
        shown = next(each[1:] for each in page[1].rows if each[0] == name and len(each) == 4)
        assert shown == [str(count) if count else "" for count in counts[row]]
    first = len(image) and 64 + 32  # ids run over train, validation, test
    for cell, examples in held["cells"].items():
        true, answer = map(int, cell.split(","))
        places = [number - first for number, _ in examples]
        assert (label[places] == true).all()
        assert (probabilities[places].argmax(-1) == answer).all()
        np.testing.assert_allclose([sure for _, sure in examples], probabilities[places].max(-1), atol=1e-5)
        assert len(examples) == min(24, counts[true, answer])
    number = next(iter(held["pictures"]))
    drawn = Image.open(io.BytesIO(base64.b64decode(held["pictures"][number].partition(",")[2]))).convert("L")
    assert np.abs(np.asarray(drawn, float) - image[int(number) - first]).mean() < 12  # WebP loses a little


def test_where_room_is_short_cells_keep_their_counts_and_show_fewer(trained):
    found = answers_of(trained / "run", "test")
    whole = confusion_of(found, 10**6)
    for most in (6000, 3000, 10):
        tight = confusion_of(found, most)
        assert sum(map(len, tight.pictures.values())) <= most
        np.testing.assert_array_equal(tight.counts, whole.counts)
        shown = {example.id for cell in tight.cells for example in cell.shown}
        assert shown == set(tight.pictures) < set(whole.pictures)
    parts = [
        found._replace(logits=found.logits[rows], label=found.label[rows], ids=found.ids[rows])
        for rows in (slice(30, None), slice(30))
    ]
    np.testing.assert_array_equal(confusion_of(pooled(parts), 10).counts, whole.counts)  # as of a cross-validation


def test_the_surest_mistakes_are_shown(page, answered):
    _, label, probabilities = answered
    wrong = np.flatnonzero(probabilities.argmax(-1) != label)
    worst = wrong[np.argsort(-probabilities[wrong].max(-1), kind="stable")][:3]
    alts = [attrs["alt"] for tag, attrs in page[1].tags if tag == "img"]
    assert [alt for alt in alts if alt.startswith("image of example")] == [
        f"image of example {place + 96}" for place in worst
    ]
    assert len([alt for alt in alts if alt.startswith("gradient of example")]) == 3
    assert (
        f"taken for {HOSTILE[probabilities[worst[0]].argmax()]} with {probabilities[worst[0]].max():.2f}"
        in page[1].text
    )


def test_the_curves_are_the_records_and_vega_takes_them(trained, page):
    records = [json.loads(line) for line in (trained / "run/metrics.jsonl").read_text().splitlines()]
    loss = page[1].held("charts")[0]
    found = {
        (curve["part"], step): value
        for curve in curves_of(loss)
        for step, value in zip(curve["step"], curve["value"], strict=True)
    }
    asked = {
        (split, record["step"]): record[f"{split}/loss"]
        for record in records
        for split in ("train", "validation")
        if f"{split}/loss" in record
    }
    assert found == asked
    signals = {signal["name"] for signal in vl_convert.vegalite_to_vega(loss)["signals"]}
    assert {"hidden", "zoom_step", "zoom_value"} <= signals  # which page.js sets
    assert loss["description"].startswith("loss over steps: train from ")


@pytest.mark.parametrize("config", ["digits_gan", "digits_vae", "digits_autoencoder"])
def test_what_makes_images_shows_its_pictures(tmp_path, config):
    run = made(tmp_path / "run", config)
    (run / "samples").mkdir()
    for name in ("samples", "curves", *(f"samples/step_{step}" for step in range(9))):
        Image.new("RGB", (3000, 100), "red").save(run / f"{name}.png")
    (run / "broken.png").write_text("no picture")
    _, read = reported(tmp_path, run)
    images = [attrs for tag, attrs in read.tags if tag == "img"]
    assert [image["alt"] for image in images] == ["samples", *(f"samples, step {step}" for step in (0, 3, 5, 8))]
    assert all(int(image["width"]) <= 1100 for image in images)
    assert "broken.png" in read.text
    assert ("examples are not shown" in read.text) == (config != "digits_gan")  # no network makes mistakes there


def test_a_run_that_is_going_on_was_stopped_or_diverged_says_so(tmp_path):
    run = made(tmp_path / "run", result=None)
    _, read = reported(tmp_path, run)
    assert "was stopped" in read.text
    assert read.row("metric") == ["train", "validation"]
    assert read.row("loss") == ["0.0500", "0.1000"]  # the newest of each
    assert "it is not measured on test" in read.text
    whole = (run / "config.json").read_text()
    config, last = json.loads(whole), list(records_of(run / "metrics.jsonl"))[-1]["step"]
    (run / "config.json").write_text(json.dumps({**config, "train": {**config["train"], "steps": last}}))
    _, read = reported(tmp_path, run)
    assert "came to its last step" in read.text
    assert "diverged" not in read.text
    (run / "config.json").write_text(whole)
    (run / "nan_report.json").write_text(json.dumps({"step": 21, "tensors": {"Dense_0/kernel": {"nan": 3, "inf": 0}}}))
    _, read = reported(tmp_path, run)
    assert "step 21 is the first that is not finite (Dense_0/kernel)" in read.text
    with owned(run, json.loads((run / "config.json").read_text())):
        _, read = reported(tmp_path, run)
    assert "is going on" in read.text


def test_a_run_of_which_next_to_nothing_is_there_is_reported(tmp_path):
    run = made(tmp_path / "run", result=None, environment=None, data=None, metrics=())
    _, read = reported(tmp_path, run)
    assert "nothing is recorded yet" in read.text
    assert "Nothing is measured yet" in read.text
    assert "nobody knows on which machine" in read.text
    (run / "config.json").write_text(json.dumps({"experiment": "a_newer_one", "seed": 0}))
    _, read = reported(tmp_path, run)
    assert "cannot be used today" in read.text


def test_seeds_are_told_by_mean_and_deviation(tmp_path):
    losses = (0.25, 0.5, 1.0)
    for seed, loss in enumerate(losses):
        result = {"step": 20, "metrics": {"test": {"loss": loss}}, "headline": ["loss"], "notes": {}}
        made(tmp_path / f"seeds/seed_{seed}", "digits_cnn", f"--config.seed={seed}", result=result)
    _, read = reported(tmp_path, tmp_path / "seeds")
    assert read.row("loss")[0].startswith(f"{np.mean(losses):.4f} ± {np.std(losses, ddof=1):.4f}")
    assert "n = 3" in read.text
    seeds = {curve["seed"] for curve in curves_of(read.held("charts")[0])}
    assert seeds == {0, 1, 2}


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("fold", ["--config.fold.of=2", "--config.fold.number={}"], ["cross_validate", "--folds=2"]),
        ("seed", ["--config.seed={}"], ["--seeds=2"]),
    ],
)
def test_what_made_several_runs_makes_them_again_beside_their_folder(tmp_path, name, flags, words):
    for number in range(2):
        made(tmp_path / f"runs/{name}_{number}", "digits_cnn", *(flag.format(number) for flag in flags))
    again = shlex.split(gather(f"{tmp_path}/runs").again)
    assert again[:2] == ["python", "launch.py"]
    assert again[-1] == f"--workdir={tmp_path}/runs_again"
    assert set(words) < set(again)
    config, _, _ = from_flags([word for word in again if word.startswith("--config")])
    assert config == from_flags([f"--config={ROOT}/configs/digits_cnn.py"])[0]
    (tmp_path / "one").mkdir()
    again = shlex.split(gather(str(made(tmp_path / "one/run"))).again)
    assert again[2:] == [f"--config={tmp_path}/one/run/config.json", f"--workdir={tmp_path}/one/run_again"]


def test_runs_of_other_configs_are_no_seeds_and_folds_that_are_missing_are_said(tmp_path, capsys):
    for seed in range(2):
        flags = (f"--config.seed={seed}", f"--config.train.batch_size={8 + seed}")
        made(tmp_path / f"mixed/seed_{seed}", "digits_cnn", *flags)
        made(tmp_path / f"folds/fold_{seed}", "digits_cnn", "--config.fold.of=3", f"--config.fold.number={seed}")
    assert launch.main(["report", f"{tmp_path}/mixed", f"--out={tmp_path}/mixed.html"]) == 2
    assert "differ in more than their seed" in capsys.readouterr().err
    _, read = reported(tmp_path, tmp_path / "folds")
    assert "not all of its folds are there, it lacks fold_2." in read.text
    assert "interval of the mean" not in read.text


def test_numbers_by_class_are_rounded(tmp_path):
    run = made(tmp_path / "run")
    (run / "per_class_test.csv").write_text("class,precision,recall,examples\na,0.98766,1e-05,7\nb,nan,?,12345678\n")
    _, read = reported(tmp_path, run)
    assert [row[1:] for row in read.rows if row[0] in ("a", "b")] == [
        ["0.9877", "1.0e-05", "7"],
        ["nan", "?", "12345678"],
    ]


def test_runs_stand_side_by_side(tmp_path):
    one = made(tmp_path / "<b>one")
    other = made(tmp_path / "other", "digits_cnn", "--config.train.batch_size=7")
    text, read = reported(tmp_path, one, other)
    assert "<b>" not in text
    assert read.row("loss") == ["0.5000", "0.5000"]
    assert read.row("config.train.batch_size") == ["64", "7"]
    assert "Not judged" in read.text
    boxes = [attrs["data-key"] for tag, attrs in read.tags if tag == "input" and "data-key" in attrs]
    assert boxes == ["run 0", "run 1", "train", "validation"]
    names = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(names) == len(set(names))


def lines_of(chart: dict) -> list[dict[str, str]]:
    """The curves that are drawn, from below: their path, stroke, stroke-dasharray and stroke-width."""
    drawn = ElementTree.fromstring(vl_convert.vegalite_to_svg({**chart, "width": 300}))
    paths = [path.attrib for group in drawn.iter() if "mark-line" in group.get("class", "") for path in group]
    return [path for path in paths if "var(--line-" in path.get("stroke", "")]


def test_equal_curves_are_both_seen_and_no_curve_is_told_by_colour_alone(tmp_path):
    """The upper one has gaps in which the lower one shows."""
    runs = [made(tmp_path / f"run_{number}", "digits_autoencoder") for number in range(9)]
    _, read = reported(tmp_path, *runs)
    lines = lines_of(read.held("charts")[0])
    dashes: dict[str, set] = {}
    for line in lines:
        dashes.setdefault(line["stroke"], set()).add(line.get("stroke-dasharray"))
    assert len(dashes) == len(set(map(str, dashes.values()))) == 8
    assert len({(line["stroke"], line.get("stroke-dasharray")) for line in lines}) == len(runs)
    assert len({line["d"] for line in lines}) == 2  # train and validation, equal in all runs
    for place in (0, 1):
        assert len({line["stroke-width"] for line in lines[place::2]}) == 1
    assert lines[0]["stroke-width"] != lines[1]["stroke-width"]
    marks = [attrs.get("stroke-dasharray", "") for tag, attrs in read.tags if tag == "line"]
    assert len(set(marks[:8])) == 8  # of the legend
    _, read = reported(tmp_path, runs[0])
    lines = lines_of(read.held("charts")[0])
    assert len(lines) == len({line.get("stroke-dasharray") for line in lines}) == 2


def test_a_key_that_one_network_lacks_is_told_so_by_report_as_by_compare(tmp_path):
    names = [str(made(tmp_path / "cnn")), str(made(tmp_path / "mlp", "digits_cnn", "--config.model={'name': 'MLP'}"))]
    _, read = reported(tmp_path, *names)
    assert read.row("config.model.name") == ["'CNN'", "'MLP'"]
    assert read.row("config.model.kernel") == ["3", "(not there)"]
    compared = [list(column.cells) for column in _differing([side_of(name) for name in names]).columns]
    for key, *values in zip(*compared, strict=True):
        assert read.row(key) == values
        assert "None" not in values  # of these two networks no argument is None


def test_the_verdict_on_two_recognisers_is_that_of_compare(trained, tmp_path, capsys, monkeypatch):
    other = shutil.copytree(trained / "run", tmp_path / "other")
    access = os.access  # neither folder can be written, and neither has to be
    monkeypatch.setattr(os, "access", lambda path, *mode: not {trained / "run", other} & {path} and access(path, *mode))
    capsys.readouterr()
    assert launch.main(["compare", f"{trained}/run", str(other), f"--out={tmp_path}/c"]) == 0
    (said,) = (line for line in capsys.readouterr().out.splitlines() if " against " in line)
    _, read = reported(tmp_path, trained / "run", other, "--mistakes=1", "--methods=gradient")
    assert said in read.text


def test_long_curves_are_thinned_and_keep_their_ends(tmp_path):
    records = [{"step": step, **{f"train/m{place}": 1.0 for place in range(4)}} for step in range(1, 20_001)]
    text, read = reported(tmp_path, made(tmp_path / "run", metrics=records))
    assert len(text.encode()) < 1_200_000
    (curve,) = curves_of(read.held("charts")[0])
    assert (curve["step"][0], curve["step"][-1]) == (1, 20_000)
    assert len(curve["step"]) <= 400
    assert "not each point is drawn" in read.text


def test_of_many_classes_the_most_frequent_mistakes_are_listed(tmp_path):
    run, names = made(tmp_path / "run"), [f"class {number}" for number in range(50)]
    counts = np.eye(50, dtype=int) * 9
    counts[3, 4], counts[7, 1] = 5, 8
    with (run / "confusion_test.csv").open("w", newline="") as opened:
        csv.writer(opened).writerows(
            [["true class", *names], *([name, *row] for name, row in zip(names, counts, strict=True))]
        )
    _, read = reported(tmp_path, run)
    assert [row for row in read.rows if row[0] in ("class 3", "class 7")] == [
        ["class 7", "class 1", "8"],
        ["class 3", "class 4", "5"],
    ]


def test_what_cannot_be_reported_is_one_line(tmp_path, capsys, monkeypatch):
    run = made(tmp_path / "run")
    for words, said in (
        ([tmp_path / "nowhere"], "no run is there"),
        ([run, f"--out={tmp_path}/no/such/report.html"], "cannot be written"),
        ([run, f"--out={tmp_path}/run/config.json"], "Name a file that ends in .html"),
        ([run, "--out=/proc/report.html"], "cannot be written"),
        ([run, "--mistakes=0"], "mistakes"),
    ):
        assert launch.main(["report", *map(str, words)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    monkeypatch.setitem(sys.modules, "altair", None)
    monkeypatch.delitem(sys.modules, "experiments.report.charts", raising=False)
    monkeypatch.delattr("experiments.report.charts", raising=False)
    assert launch.main(["report", str(run)]) == 2
    assert "pip install -e '.[report]'" in capsys.readouterr().err


def test_what_is_damaged_is_left_out(tmp_path):
    records = [{"step": step, "train/loss": value} for step, value in enumerate((1.0, float("nan"), "<b>", None, 0.5))]
    run = made(tmp_path / "run", metrics=records, result=None)
    (run / "confusion_validation.csv").write_text("true class,a,b\na,1\nb,2,x\n")
    _, read = reported(tmp_path, run)
    (curve,) = curves_of(read.held("charts")[0])
    assert curve["value"] == [1.0, 0.5]
    assert read.row("loss") == ["0.5000"]
    assert "takes for which" not in read.text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("folds.json", b"{"),
        ("folds.json", b'{"folds": 2}'),
        ("out_of_fold.npz", b""),
        ("out_of_fold.npz", b"no archive"),
        ("out_of_fold.npz", None),  # a bit of it
        ("fold_1/metrics.jsonl", b""),
        ("fold_1/metrics.jsonl", b'{"step": 10, "train/lo'),
    ],
)
def test_a_damaged_file_of_a_cross_validation_is_named(tmp_path, capsys, name, content):
    runs = tmp_path / "runs"
    for number in range(2):
        made(runs / f"fold_{number}", "digits_autoencoder", "--config.fold.of=2", f"--config.fold.number={number}")
    (runs / "folds.json").write_text('{"folds": 2, "metrics": {}}')
    np.savez(runs / "out_of_fold.npz", id=np.arange(4), logits=np.ones((4, 3)))
    reported(tmp_path, runs)
    whole = (runs / name).read_bytes()
    middle = whole.index(np.ones(3).tobytes()) if content is None else 0
    (runs / name).write_bytes(whole[:middle] + b"\1" + whole[middle + 1 :] if content is None else content)
    (tmp_path / "report.html").unlink()
    capsys.readouterr()
    assert launch.main(["report", str(runs), f"--out={tmp_path}/report.html"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"launch.py: {runs / name}: ")
    assert line.endswith("The file is damaged: put it back as it was, take it away, or name another run.")
    assert not (tmp_path / "report.html").exists()
    (runs / name).unlink()  # as the line says
    reported(tmp_path, runs)


def test_a_config_file_outside_this_repository_is_not_run(tmp_path):
    """A folder may be anybody's, and names a program there."""
    evil = tmp_path / "configs/evil.py"
    evil.parent.mkdir()
    evil.write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    command = ["launch.py", f"--config={evil}", "--config.train.steps=7", "; rm -rf <x>"]
    _, read = reported(tmp_path, made(tmp_path / "run", environment=[{"command": command}]))
    assert not (tmp_path / "ran").exists()
    assert read.row("train.steps") == ["", "7"]
    assert "'; rm -rf <x>'" in read.text
