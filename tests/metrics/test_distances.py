"""Distances against scipy's matrix root, closed forms and brute force; the same for any batches and devices."""

import functools

import jax
import numpy as np
import pytest
from scipy import linalg, special, stats
from scipy.spatial.distance import cdist

from jaxrec import metrics
from jaxrec.data.batches import eval_batches, train_batches
from jaxrec.engine.program import compile_task
from jaxrec.errors import InputError
from jaxrec.metrics import distances
from jaxrec.sharding import data_parallel
from jaxrec.tasks.task import State, Task

pytestmark = pytest.mark.filterwarnings("ignore:eval_step is compiled once more")


def clouds(real: int = 150, generated: int = 120, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mixing = np.eye(width) + rng.normal(0, 0.2, (width, width))
    made = 0.8 * rng.normal(size=(generated, width)) @ mixing + 0.3
    return rng.normal(size=(real, width)).astype(np.float32), made.astype(np.float32)


def textbook_frechet(real: np.ndarray, generated: np.ndarray) -> float:
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    one, other = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root = linalg.sqrtm(one @ other).real
    return np.square(real.mean(0) - generated.mean(0)).sum() + np.trace(one + other - 2 * root)


def test_frechet_equals_the_textbook_with_scipys_matrix_root():
    real, generated = clouds()
    wanted = textbook_frechet(real, generated)
    assert 0.3 < wanted < 3
    np.testing.assert_allclose(distances.frechet(real, generated), wanted, rtol=1e-9)
    np.testing.assert_allclose(distances.frechet(generated, real), wanted, rtol=1e-9)


def test_frechet_of_something_and_itself_is_zero():
    real, _ = clouds()
    assert distances.frechet(real, real) < 1e-12
    assert distances.frechet(real, real[::-1]) < 1e-12
    few = clouds(real=10, width=40)[0]  # 9 of 40 directions vary
    assert distances.frechet(few, few) < 1e-12


def whitened(rows: np.ndarray) -> np.ndarray:
    """Rows whose mean is exactly 0 and whose covariance is the identity."""
    rows = rows - rows.mean(0)
    return rows @ np.linalg.inv(linalg.cholesky(np.cov(rows, rowvar=False)))


def test_two_gaussians_give_the_analytic_value():
    """Of covariances that commute it is |m1 - m2|^2 + sum (sqrt(a) - sqrt(b))^2 over their eigenvalues."""
    rng = np.random.default_rng(1)
    one, other = whitened(rng.normal(size=(300, 4))), whitened(rng.normal(size=(200, 4)))
    turn = stats.ortho_group.rvs(4, random_state=0)
    a, b, shift = np.array([4.0, 1.0, 0.25, 1e-8]), np.array([1.0, 9.0, 0.25, 0.0]), np.array([1.0, -2.0, 0.0, 0.5])
    value = distances.frechet(one * np.sqrt(a) @ turn, (other * np.sqrt(b) + shift) @ turn)
    np.testing.assert_allclose(value, np.square(shift).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum(), rtol=1e-10)


def test_fewer_images_than_features_are_no_special_case():
    """Where covariances have no inverse, features that say nothing new change nothing."""
    real, generated = clouds(real=20, generated=15)
    wide = np.concatenate([real, np.zeros((20, 60))], 1), np.concatenate([generated, np.zeros((15, 60))], 1)
    turn = stats.ortho_group.rvs(66, random_state=0)
    value = distances.frechet(*(rows @ turn for rows in wide))
    np.testing.assert_allclose(value, textbook_frechet(real, generated), rtol=1e-9)


def test_rows_taken_in_parts_have_the_same_moments():
    rows = np.random.default_rng(0).normal(3, 1, (10_000, 3)).astype(np.float32)  # three parts
    mean, factor = distances._moments(rows)
    assert factor.shape == (3, 3)
    np.testing.assert_allclose(mean, rows.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(factor.T @ factor, np.cov(rows.astype(np.float64), rowvar=False), atol=1e-12)


def test_classifier_score_of_known_distributions():
    sure = 1000.0 * np.eye(10)[np.arange(50) % 10]
    np.testing.assert_allclose(distances.classifier_score(sure), 10, rtol=1e-12)  # sure, and of all classes alike
    np.testing.assert_allclose(distances.classifier_score(sure[:1].repeat(9, 0)), 1, rtol=1e-12)  # always the same
    np.testing.assert_allclose(distances.classifier_score(np.zeros((9, 10))), 1, rtol=1e-12)  # never sure
    logits = np.random.default_rng(0).normal(0, 3, (40, 5)).astype(np.float32)
    p = special.softmax(logits.astype(np.float64), axis=-1)
    wanted = np.exp(np.mean([stats.entropy(row, p.mean(0)) for row in p]))
    assert 1.5 < wanted < 4.5
    np.testing.assert_allclose(distances.classifier_score(logits), wanted, rtol=1e-12)


def brute_force(real: np.ndarray, generated: np.ndarray, k: int, wide: int) -> tuple[float, float, float, float]:
    """The definitions, point by point, on distances taken by differences."""
    own, across, made = cdist(real, real), cdist(generated, real), cdist(generated, generated)
    ball = [np.sort(row)[k] for row in own]  # place 0 is the point itself
    wider = [np.sort(row)[wide] for row in own]
    made_ball = [np.sort(row)[k] for row in made]
    real_indices, made_indices = range(len(real)), range(len(generated))
    precision = np.mean([any(across[j, i] <= ball[i] for i in real_indices) for j in made_indices])
    recall = np.mean([any(across[j, i] <= made_ball[j] for j in made_indices) for i in real_indices])
    density = np.mean([sum(across[j, i] <= wider[i] for i in real_indices) / wide for j in made_indices])
    coverage = np.mean([any(across[j, i] <= wider[i] for j in made_indices) for i in real_indices])
    return precision, recall, density, coverage


@pytest.mark.parametrize(("k", "wide", "entries"), [(3, 5, 2**23), (1, 2, 2**23), (3, 5, 1000), (7, 4, 10)])
def test_neighbourhoods_equal_brute_force(monkeypatch, k, wide, entries):
    """Also where a matrix of distances is taken a few rows, or one, at a time."""
    monkeypatch.setattr(distances, "ENTRIES", entries)
    real, generated = clouds()
    found = distances.neighbourhoods(real, generated, k=k, wide=wide)
    wanted = brute_force(real, generated, k, wide)
    assert all(0.05 < value < 2 for value in wanted)
    assert len(set(wanted)) == 4
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_neighbourhoods_tell_few_modes_from_poor_images():
    real, _ = clouds()
    collapsed = distances.neighbourhoods(real, real[:1].repeat(100, 0) + np.float32(1e-3))
    assert collapsed.precision == 1
    assert collapsed.recall < 0.1
    assert collapsed.coverage < 0.2
    poor = distances.neighbourhoods(real, 6 * np.random.default_rng(1).normal(size=(100, 6)))
    assert poor.precision < 0.1
    assert poor.recall > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: distances.frechet(np.zeros((1, 3)), np.zeros((9, 3))), "1 real and 9 generated images"),
        (lambda: distances.neighbourhoods(np.zeros((9, 3)), np.zeros((5, 3))), "needs 6 of each"),
        (lambda: distances.frechet(np.zeros((9, 3)), np.zeros((9, 4))), r"got \(9, 3\) and \(9, 4\)"),
        (lambda: distances.frechet(np.zeros((9, 3, 1)), np.zeros((9, 3, 1))), "need shapes"),
    ],
)
def test_too_few_images_or_other_features_are_said(call, message):
    with pytest.raises(InputError, match=message):
        call()


def split(size: int = 90) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    real, generated = clouds(size, size)
    logits = np.random.default_rng(3).normal(0, 2, (2, size, 4)).astype(np.float32)
    return {"features": real, "logits": logits[0]}, {"features": generated, "logits": logits[1]}


def test_compare_gives_each_number_its_name():
    real, generated = split()
    found = distances.compare(real, generated)
    near = distances.neighbourhoods(real["features"], generated["features"])
    assert found == {
        "frechet": distances.frechet(real["features"], generated["features"]),
        **near._asdict(),
        "frechet_logits": distances.frechet(real["logits"], generated["logits"]),
        "classifier_score": distances.classifier_score(generated["logits"]),
    }
    of_pixels = distances.compare({"pixels": real["features"]}, {"pixels": generated["features"]})
    assert of_pixels == {f"{name}_pixels": found[name] for name in ("frechet", *near._asdict())}


def test_a_generator_that_has_diverged_has_no_number():
    real, generated = split()
    generated["logits"][3, 1] = np.inf
    found = distances.compare(real, generated)
    assert set(found) == {name for kind in ("features", "logits") for name in distances.MEASURES[kind]}
    assert all(np.isnan(value) for value in found.values())


def test_neighbours_are_looked_for_among_images_of_the_whole_set(monkeypatch):
    monkeypatch.setattr(distances, "NEIGHBOURHOODS", 30)
    real, generated = split()
    found = distances.compare(real, generated)
    every = [round(place) for place in np.linspace(0, 89, 30)]
    wanted = brute_force(real["features"][every], generated["features"][every], 3, 5)
    np.testing.assert_allclose([found[name] for name in distances.Neighbourhoods._fields], wanted, rtol=1e-12)
    np.testing.assert_allclose(found["frechet"], textbook_frechet(real["features"], generated["features"]), rtol=1e-9)


@functools.cache
def program_on(devices: int, parallel: str):
    """The program of a task whose images are the rows of `split`, side by side."""
    rows = [value for side in split() for value in side.values()]
    arrays = {"image": np.concatenate(rows, axis=1)[:, None, None], "label": np.zeros(90, np.int32)}

    def measure(batch):
        image = batch["image"].reshape(len(batch["label"]), -1)
        one = {"features": image[:, :6], "logits": image[:, 6:10]}
        other = {"features": image[:, 10:16], "logits": image[:, 16:]}
        return distances.pairs(one, other, batch["mask"])

    task = Task(
        lambda key, batch: State(jax.numpy.zeros((), jax.numpy.int32), {}, (), {}),
        lambda state, batch, key: (state, metrics.means({"loss": batch["label"]}, batch["mask"])),
        lambda state, batch, key: measure(batch),
    )
    spread = data_parallel(jax.devices()[:devices], parallel=parallel)
    program = compile_task(task, train_batches(arrays, batch_size=8), parallel=spread)
    return arrays, program, program.init()


@pytest.mark.parametrize(
    ("devices", "parallel", "size"),
    [(1, "jit", 7), (1, "jit", 90), (8, "jit", 8), (8, "jit", 96), (8, "pmap", 40)],
)
def test_a_distance_is_that_of_the_whole_split_for_any_batches_and_devices(devices, parallel, size):
    arrays, program, state = program_on(devices, parallel)
    found = program.evaluate(state, eval_batches(arrays, batch_size=size))
    assert found == distances.compare(*split())  # the same rows in the same order: the same bits
