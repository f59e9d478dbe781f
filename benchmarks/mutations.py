"""Plants bugs in jaxrec/, one at a time, and counts how many the tests notice: a test of the tests.

    python benchmarks/mutations.py [--only=3,17] [--jobs=1] [--baseline]

Each row of MUTATIONS is a slip of a tired programmer: a text that occurs once in a file, what stands there instead, the
tests that should notice, and what breaks. The working tree, with what git does not ignore, is copied into a temporary
folder. There the tests that the chosen rows name have to pass as the tree is, since a red test would catch everything:
--baseline does that alone. Then each row is applied, its tests run until the first fails, and the file is put back.

    caught   a test failed: its name stands in the table
    missed   all of them passed
    broken   the tests could not be run, since nothing can be imported or there is no such test

A row whose text does not occur exactly once is refused before anything runs. Exit code 1 if a row is refused or broken,
the tree's own tests fail, or more than 2 rows are missed (of all 40, fewer than 38 caught).
Nothing of it is part of CI: it takes a quarter of an hour.
"""

import argparse
import concurrent.futures
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
MAY_MISS = 2
LIMIT = 900  # seconds for each test that a row names


class Mutation(NamedTuple):
    """One bug."""

    file: str  # in jaxrec/
    old: str  # occurs exactly once
    new: str
    tests: tuple[str, ...]  # pytest node ids, in tests/
    breaks: str  # in a word or two; of one that no test can see, why


MUTATIONS = [
    # What is minimised.
    Mutation(
        "losses/recognition.py",
        'targets = share * targets + (1 - share) * target(batch["other_label"])',
        'targets = (1 - share) * targets + share * target(batch["other_label"])',
        ("losses/test_losses.py::test_an_example_mixed_with_a_share_of_1_is_unmixed",),
        "the shares of a mixed example's labels are swapped",
    ),
    Mutation(
        "losses/recognition.py",
        "# one_hot makes zeros of a label that no class has\n"
        '        "accuracy": jnp.where(known & jnp.isfinite(logits).all(-1), right, jnp.nan),',
        '# one_hot makes zeros of a label that no class has\n        "accuracy": jnp.where(known, right, jnp.nan),',
        ("losses/test_losses.py::test_what_has_diverged_is_no_number",),
        "a network that has diverged is right about class 0",
    ),
    Mutation(
        "losses/variational.py",
        "bound = jax.nn.logsumexp(weights, axis=1) - math.log(weights.shape[1])",
        "bound = jax.nn.logsumexp(weights, axis=1) - math.log(weights.shape[0])",
        ("tasks/test_variational.py::test_iwae_is_the_log_of_the_mean_weight",),
        "the mean over codes is divided by the images",
    ),
    Mutation(
        "losses/variational.py",
        'risen = jnp.minimum(1.0, batch["epoch"] / warmup)',
        'risen = jnp.minimum(1.0, (batch["epoch"] + 1) / warmup)',
        ("tasks/test_variational.py::test_the_divergence_warms_up_by_epochs",),
        "the warm-up of the divergence is an epoch ahead",
    ),
    Mutation(
        "losses/adversarial.py",
        "share = jax.random.uniform(key, (len(real), 1, 1, 1))",
        "share = jax.random.uniform(key, (1, 1, 1, 1))",
        ("tasks/test_adversarial.py::test_the_gradient_penalty_looks_between_real_and_generated_images",),
        "the gradient penalty draws one place for all pairs",
    ),
    # What is measured.
    Mutation(
        "metrics/metric.py",
        "Mean(jnp.sum(jnp.where(mask, value, 0), dtype=jnp.float32), count)",
        "Mean(jnp.sum(mask * value, dtype=jnp.float32), count)",
        ("metrics/test_metrics.py::test_means_look_at_unmasked_rows_alone",),
        "NaN in padding reaches the mean",
    ),
    Mutation(
        "metrics/metric.py",
        "np.asarray(each, np.float64)) for each in zip(*parts, strict=True)",
        "np.asarray(each, np.float32)) for each in zip(*parts, strict=True)",
        ("metrics/test_metrics.py::test_many_parts_lose_no_digits",),
        "batches are added up in float32",
    ),
    Mutation(
        "metrics/recognition.py",
        "seen = (support > 0) | (guessed > 0)",
        "seen = support > 0",
        ("metrics/test_predictions.py::test_classes_without_examples_count_where_they_are_predicted",),
        "macro means leave out classes that are predicted wrongly alone",
    ),
    Mutation(
        "metrics/distances.py",
        "return mean, factor / np.sqrt(len(rows) - 1)",
        "return mean, factor / np.sqrt(len(rows))",
        ("metrics/test_distances.py::test_frechet_equals_the_textbook_with_scipys_matrix_root",),
        "covariances over N",
    ),
    Mutation(
        "metrics/distances.py",
        "squares[np.arange(len(squares)), np.arange(len(rows))[part]] = np.inf",
        "squares[np.arange(len(squares)), np.arange(len(rows))[part]] = 0.0",
        ("metrics/test_distances.py::test_neighbourhoods_equal_brute_force",),
        "a point is its own nearest neighbour",
    ),
    Mutation(
        "metrics/distances.py",
        "mean = np.logaddexp.reduce(logs, axis=0, keepdims=True) - np.log(len(logs))  # log p(y)",
        "mean = logs.mean(0, keepdims=True)  # log p(y)",
        ("metrics/test_distances.py::test_classifier_score_of_known_distributions",),
        "the mean of logarithms for the logarithm of the mean",
    ),
    # How it is minimised.
    Mutation(
        "optim/optimizers.py",
        "last = max(int(block[1]) for block in blocks if block) + 2",
        "last = max(int(block[1]) for block in blocks if block) + 1",
        ("optim/test_optimizers.py::test_layer_decay_lets_layers_near_the_image_move_less",),
        "the classifier shares the last block's layer",
    ),
    Mutation(
        "optim/schedules.py",
        "cosine_decay_schedule(peak, steps - rising, alpha=end)",
        "cosine_decay_schedule(peak, steps, alpha=end)",
        ("optim/test_schedules.py::test_every_step_of_a_rise_and_a_fall",),
        "the cosine is cut off by the length of the warm-up",
    ),
    Mutation(
        "optim/schedules.py",
        "scales[step] = scales.get(step, 1.0) * factor",
        "scales[step] = factor",
        ("optim/test_schedules.py::test_milestones_of_a_short_run_may_be_one_step",),
        "two milestones on one step count once",
    ),
    # Random changes.
    Mutation(
        "augment/geometry.py",
        "jnp.array([2 * down + 1, 2 * right + 1])",
        "jnp.array([2 * down, 2 * right])",
        ("augment/test_augment.py::test_crops_are_parts_of_the_padded_image_equally_often",),
        "a crop never reaches the last row and column",
    ),
    Mutation(
        "augment/geometry.py",
        "period = 2 * (size - 1)  # there and back",
        "period = 2 * size - 1  # there and back",
        ("augment/test_augment.py::test_crops_are_parts_of_the_padded_image_equally_often",),
        "a reflection repeats the edge on one side",
    ),
    Mutation(
        "augment/geometry.py",
        "jnp.where(flip, width - column, column)",
        "jnp.where(flip, width - 1 - column, column)",
        ("augment/test_geometry.py::test_a_flip_is_one_draw_and_turns_everything",),
        "flipped boxes lie a pixel to the left",
    ),
    Mutation(
        "augment/geometry.py",
        "jnp.floor(place + 0.5).astype(jnp.int32)",
        "place.astype(jnp.int32)",
        ("augment/test_geometry.py::test_a_mask_between_pixels_takes_the_nearest",),
        "a rotated mask lies half a pixel off its image",
    ),
    Mutation(
        "augment/policy.py",
        "len(LOOKS) + len(MOVES) - 1)",
        "len(LOOKS) + len(MOVES) - 2)",
        ("augment/test_augment.py::test_rand_augment_draws_every_operation_equally_often",),
        "the last operation is never drawn",
    ),
    # What it is fed.
    Mutation(
        "data/splits.py",
        "return np.sort(kept), np.sort(held)",
        "return np.sort(held), np.sort(kept)",
        ("data/test_sources.py::test_digits_splits_are_separate_and_stratified",),
        "what is held out is trained on",
    ),
    Mutation(
        "data/batches.py",
        "np.random.default_rng((seed, epoch))",
        "np.random.default_rng(seed + epoch)",
        ("data/test_batches.py::test_seeds_and_epochs_have_orders_of_their_own",),
        "seed 1 begins with the order that seed 0 has second",
    ),
    Mutation(
        "data/batches.py",
        '"mask": ids != PADDING',
        '"mask": ids > 0',
        ("data/test_batches.py::test_fetch_gathers_the_rows_inside_a_compiled_step",),
        "the first example counts as padding",
    ),
    Mutation(
        "data/keys.py",
        "return jax.random.fold_in(jax.random.fold_in(root, epoch), example)",
        "return jax.random.fold_in(root, example)",
        ("data/test_transforms.py::test_an_augmented_image_follows_from_seed_epoch_and_example_alone",),
        "every epoch draws the same",
    ),
    Mutation(
        "data/transforms.py",
        "keys = example_keys(batch, stream=CORRUPTION)",
        "keys = example_keys(batch, stream=AUGMENTATION)",
        ("losses/test_reconstruction.py::test_corruption_follows_from_seed_epoch_and_example",),
        "what hides the input follows from what changes it",
    ),
    # Where it lies.
    Mutation(
        "sharding.py",
        "leaves = [jax.lax.pmean(x, AXIS) if own else x for x, own in zip(leaves, averaged, strict=True)]",
        "leaves = [x for x, own in zip(leaves, averaged, strict=True)]",
        ("engine/test_sharding.py::test_under_pmap_what_is_collected_merges_as_its_collection_says",),
        "batch statistics under pmap are those of the first device",
    ),
    Mutation(
        "layers/normalization.py",
        "mean, squares = mean_over_devices((x.mean(axes), jnp.square(x).mean(axes)))",
        "mean, squares = x.mean(axes), jnp.square(x).mean(axes)",
        ("engine/test_sharding.py::test_twenty_steps_learn_the_same_as_on_one_device[pmap-batch]",),
        "under pmap each device normalises its part alone",
    ),
    Mutation(
        "sharding.py",
        'if differs and "batch_stats" not in name.split("/"):',
        'if differs and not name.startswith("extra/"):',
        ("engine/test_sharding.py::test_under_pmap_what_is_collected_merges_as_its_collection_says",),
        "pmap averages a queue of features over the devices",
    ),
    # What is learned.
    Mutation(
        "tasks/average.py",
        "steps = state.step.astype(jnp.float32)",
        "steps = new.step.astype(jnp.float32)",
        ("tasks/test_average.py::test_the_average_is_the_recursion",),
        "the moving average keeps some of the initial state",
    ),
    Mutation(
        "tasks/gradients.py",
        "jax.random.split(key, parts))",
        "jnp.stack([key] * parts))",
        ("tasks/test_accumulation.py::test_each_part_draws_by_a_key_of_its_own",),
        "all parts of a batch draw the same dropout",
    ),
    Mutation(
        "tasks/one_loss.py",
        "return apply(state.params, state.collections, batch, key, False)[0]",
        "return apply(state.params, state.collections, batch, key, True)[0]",
        ("tasks/test_task.py::test_a_prediction_is_what_the_network_says_in_evaluation",),
        "predictions drop out units and normalise by their own batch",
    ),
    Mutation(
        "tasks/adversarial.py",
        'judge(critic[0], critic[2], fake, part.get("label")',
        'judge(state.params["discriminator"], critic[2], fake, part.get("label")',
        ("tasks/test_adversarial.py::test_a_step_is_the_gradient_steps_taken_by_hand",),
        "the generator learns from the discriminator of before the step",
    ),
    Mutation(
        "tasks/spectral.py",
        "_length(_matrix(leaves[path]) @ _unit(vector))",
        "_length(_matrix(leaves[path]) @ vector)",
        ("tasks/test_spectral.py::test_the_length_of_a_vector_means_nothing",),
        "averaged vectors make too large singular values",
    ),
    Mutation(
        "tasks/transfer.py",
        'extra={**state.extra, **loaded["extra"]}',
        "extra=state.extra",
        ("tasks/test_transfer.py::test_everything_that_fits_is_taken_over",),
        "the batch statistics of the other run are dropped",
    ),
    # What runs it.
    Mutation(
        "engine/loop.py",
        "previous - previous % program.log_every + program.log_every",
        "previous + program.log_every",
        ("engine/test_loop.py::test_a_run_that_goes_on_in_between_has_the_moments_of_the_unbroken_one",),
        "resumed in between, no interval ends on a multiple of log_every",
    ),
    Mutation(
        "engine/program.py",
        "return parallel.spread(task.train_step)(state, batch, jax.random.fold_in(key, state.step))",
        "return parallel.spread(task.train_step)(state, batch, key)",
        ("engine/test_loop.py::test_every_step_of_every_seed_draws_by_a_key_of_its_own",),
        "every step drops the same units",
    ),
    Mutation(
        "engine/steps.py",
        "jax.tree.map(lambda row: row[index], rows), key)",
        "first, key)",
        ("engine/test_loop.py::test_steps_taken_without_the_host_are_the_same_steps",),
        "all steps of a call see its first batch",
    ),
    Mutation(
        "engine/hooks.py",
        "return hook(moment) if due else None",
        "hook(moment) if due else None",
        ("engine/test_stopping.py::test_every_passes_the_wish_to_stop_on",),
        "early stopping never ends a run",
    ),
    Mutation(
        "engine/hooks.py",
        "self._best = max(self._best, value)",
        "self._best = value",
        ("engine/test_stopping.py::test_history_as_records_write_it",),
        "patience counts from the value before, not from the best",
    ),
    Mutation(
        "engine/checkpoint.py",
        "best = max(scores, key=lambda step: (scores[step], step), default=None)",
        "best = max(scores, key=lambda step: scores[step], default=None)",
        ("engine/test_checkpoint.py::test_of_several_that_are_kept_and_equal_the_latest_is_best",),
        "of equal checkpoints the earlier is best",
    ),
    # What comes out.
    Mutation(
        "output/records.py",
        "self._add(step + 1, session_log",
        "self._add(step, session_log",
        ("output/test_records.py::test_what_came_after_the_checkpoint_is_taken_back",),
        "TensorBoard forgets the moment of the checkpoint that a run goes on from",
    ),
]


class Result(NamedTuple):
    """What became of one mutation."""

    outcome: str  # caught, missed or broken
    said: str  # the test that failed, or why it is broken
    seconds: float


def copied(folder: pathlib.Path) -> None:
    """Copies what git tracks, and what it does not but would, as it is now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():  # else it was deleted
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def environment(folder: pathlib.Path) -> dict[str, str]:
    """Of a process that imports the copy. No bytecode: it is told from its source by size and second alone."""
    return {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder)}


def tests(folder: pathlib.Path, names: Sequence[str], *flags: str) -> tuple[int, str]:
    """Runs tests of the copy: (pytest's exit code, or -1 after too long; what it printed)."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *flags]
    try:
        done = subprocess.run(
            [*command, *(f"tests/{name}" for name in names)],
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
            timeout=LIMIT * len(names),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"they take longer than {LIMIT} s each"
    return done.returncode, done.stdout + done.stderr


def planted(mutation: Mutation, folder: pathlib.Path) -> Result:
    """Applies one mutation to the copy, runs its tests, and takes it back."""
    file, began = folder / "jaxrec" / mutation.file, time.perf_counter()
    text = file.read_text()
    file.write_text(text.replace(mutation.old, mutation.new))
    try:
        code, said = tests(folder, mutation.tests, "-x")
    finally:
        file.write_text(text)
    seconds = time.perf_counter() - began
    if code == 0:
        return Result("missed", ", ".join(mutation.tests), seconds)
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", said, re.MULTILINE)
    if code == 1 and failed:
        return Result("caught", failed[1], seconds)
    return Result("broken", " ".join(said.split())[-300:], seconds)  # an import that fails, a test that is not there


def fit_to_start(folder: pathlib.Path, rows: dict[int, Mutation]) -> bool:
    """Whether a copy is what its tests import, every row can be applied, and the tests pass without; says what not."""
    where = [sys.executable, "-c", "import jaxrec; print(jaxrec.__file__)"]
    found = subprocess.check_output(where, cwd=folder, env=environment(folder), text=True).strip()
    if not pathlib.Path(found).is_relative_to(folder):
        print(f"The tests would import {found}, not the copy.")
        return False
    counts = {row: (folder / "jaxrec" / each.file).read_text().count(each.old) for row, each in rows.items()}
    for row in (row for row in rows if counts[row] != 1):
        print(f"Row {row} is refused: its text occurs {counts[row]} times in jaxrec/{rows[row].file}.")
    if set(counts.values()) != {1}:
        return False
    code, said = tests(folder, sorted({name for mutation in rows.values() for name in mutation.tests}))
    wrong = [line for line in said.splitlines() if re.match("FAILED|ERROR|E  ", line)] if code else []
    print("\n".join([*wrong, f"without a mutation: {said.strip().splitlines()[-1]}"]), flush=True)
    return code == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="numbers of rows, such as 3,17; all by default")
    parser.add_argument("--jobs", type=int, default=1, help="rows at once, each in a copy of its own")
    parser.add_argument("--baseline", action="store_true", help="run the tests on the tree as it is, and nothing else")
    arguments = parser.parse_args()
    rows = dict(enumerate(MUTATIONS, start=1))
    if arguments.only:
        rows = {row: rows[row] for row in map(int, arguments.only.split(","))}
    with tempfile.TemporaryDirectory() as temporary:
        folders: queue.SimpleQueue[pathlib.Path] = queue.SimpleQueue()
        for index in range(arguments.jobs):
            folder = pathlib.Path(temporary).resolve() / str(index)
            copied(folder)
            folders.put(folder)
        ready = fit_to_start(folder, rows)
        if arguments.baseline or not ready:
            return int(not ready)

        def carried_out(row: int) -> str:
            folder, mutation = folders.get(), rows[row]
            result = planted(mutation, folder)
            folders.put(folder)
            what = f"{mutation.file}: {mutation.breaks}"
            print(f"{row:2}  {result.outcome}  {result.seconds:4.0f} s  {what}\n{'':20}{result.said}", flush=True)
            return result.outcome

        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            outcomes = list(pool.map(carried_out, rows))
    caught, missed, broken = (outcomes.count(outcome) for outcome in ("caught", "missed", "broken"))
    print(f"{caught} of {len(outcomes)} caught, {missed} missed, {broken} broken")
    return int(broken > 0 or missed > MAY_MISS)


if __name__ == "__main__":
    sys.exit(main())
