"""Checkpoints: what is kept, what is best, and what comes back on other devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.errors import InputError
from jaxrec.sharding import Parallel, data_parallel

NAN = float("nan")


def tree(value: float) -> dict:
    return {"kernel": jnp.full((64, 32), float(value)), "step": jnp.asarray(int(value), jnp.int32)}


def template(parallel: Parallel, like: dict | None = None) -> dict:
    shapes = jax.eval_shape(lambda: tree(0)) if like is None else like
    return jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        shapes,
        parallel.state(shapes),
    )


def kept(folder) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("max", [0.5, NAN, 0.3, 0.4], 1),
        ("min", [0.5, NAN, 0.3, 0.4], 3),
        ("max", [NAN, 0.2, 0.1, NAN], 2),
        ("max", [NAN, NAN, NAN, NAN], None),
        ("max", [0.5, 0.5, 0.1, 0.1], 2),
        ("max", [None, 0.2, None, None], 2),
    ],
)
def test_newest_and_best_are_kept_and_nan_is_never_best(tmp_path, one_device, mode, values, best):
    with Checkpoints(tmp_path, keep=1, monitor="validation/accuracy", mode=mode) as checkpoints:
        for step, value in enumerate(values, start=1):
            checkpoints.save(step, tree(step), {} if value is None else {"validation/accuracy": value})
        assert checkpoints.best() == best
        assert checkpoints.latest() == 4
    assert set(kept(tmp_path)) >= {4} | ({best} if best else set())
    assert len(kept(tmp_path)) <= 2
    with Checkpoints(tmp_path, monitor="validation/accuracy", mode=mode) as checkpoints:  # a later process agrees
        assert checkpoints.best() == best
        for step in kept(tmp_path):
            restored = checkpoints.restore(template(one_device), step)
            np.testing.assert_array_equal(restored["kernel"], np.full((64, 32), step))


def test_of_several_that_are_kept_and_equal_the_latest_is_best(tmp_path):
    with Checkpoints(tmp_path, keep=3, monitor="accuracy") as checkpoints:
        for step, value in enumerate([0.5, 0.5, 0.25], start=1):
            checkpoints.save(step, tree(step), {"accuracy": value})
        assert checkpoints.best() == 2


def test_a_step_that_is_there_is_left_as_it_is(tmp_path):
    for again in (False, True):
        with Checkpoints(tmp_path, keep=2) as checkpoints:
            checkpoints.save(1, tree(9 if again else 1))
            checkpoints.save(1, tree(8))
            assert checkpoints.read(1)["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_keep_counts_the_newest(tmp_path):
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step in range(1, 7):
            checkpoints.save(step, tree(step))
    assert kept(tmp_path) == [4, 5, 6]


def test_a_save_is_not_disturbed_by_the_steps_after_it(tmp_path, one_device):
    """The trainer hands the state's memory to the next step while the save is still being written."""
    onward = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    state = jax.device_put(tree(1))
    with Checkpoints(tmp_path, keep=100) as checkpoints:
        for step in range(1, 31):
            checkpoints.save(step, state)
            state = onward(state)
        for step in range(1, 31):
            restored = checkpoints.restore(template(one_device), step)
            np.testing.assert_array_equal(restored["kernel"], np.full((64, 32), step))


def test_a_save_compiles_nothing(tmp_path, compilations):
    values = {"kernel": np.zeros((16, 7), np.float32), "bias": np.zeros(9, np.float32)}
    for rule in ("replicate", "fsdp"):
        with Checkpoints(tmp_path / rule) as checkpoints:
            checkpoints.save(1, jax.device_put(values, data_parallel(rule=rule).state(values)))
    assert compilations == []


@pytest.mark.parametrize(
    ("saved", "restored"),
    [((8, "replicate"), (1, "replicate")), ((8, "fsdp"), (4, "fsdp")), ((1, "replicate"), (8, "fsdp"))],
)
def test_restores_on_other_devices_and_rules(tmp_path, saved, restored):
    before, after = (data_parallel(jax.devices()[:count], rule=rule) for count, rule in (saved, restored))
    values = {"kernel": np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32), "step": np.int32(7)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, jax.device_put(values, before.state(values)))
    with Checkpoints(tmp_path) as checkpoints:
        wanted = template(after)
        back = checkpoints.restore(wanted, 7)
    for name, value in values.items():
        assert np.asarray(back[name]).tobytes() == value.tobytes()
        assert back[name].sharding.is_equivalent_to(wanted[name].sharding, value.ndim)


@pytest.mark.parametrize(
    "other",
    [
        {"kernel": jax.ShapeDtypeStruct((64, 31), jnp.float32), "step": jax.ShapeDtypeStruct((), jnp.int32)},
        {"kernel": jax.ShapeDtypeStruct((64, 32), jnp.int32), "step": jax.ShapeDtypeStruct((), jnp.int32)},
        {"weights": jax.ShapeDtypeStruct((64, 32), jnp.float32), "step": jax.ShapeDtypeStruct((), jnp.int32)},
    ],
    ids=["shape", "type", "name"],
)
def test_another_model_is_refused(tmp_path, one_device, other):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, tree(3))
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(InputError, match=r"step 3 .* does not fit this model"):
        checkpoints.restore(template(one_device, other), 3)


def test_a_damaged_checkpoint_is_called_damaged(tmp_path, one_device):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (3, 4):
            checkpoints.save(step, tree(step), {"validation/accuracy": 0.5})
    for file in (tmp_path / "4" / "default").rglob("*"):
        if file.is_file() and "d" in file.parts[-2:]:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        with pytest.raises(InputError, match=r"step 4 .* cannot be used: default/d/\w+ has .* Those that can: 3\."):
            checkpoints.restore(template(one_device), 4)
        checkpoints.restore(template(one_device), 3)


def test_metrics_come_back_with_their_step(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        metrics = {"speed/seconds": 0.1 + 0.2, "unfinished": [[1, 2.5e-310], "loss", None, NAN]}
        checkpoints.save(3, tree(3), metrics)
        assert repr(checkpoints.metrics(3)) == repr(metrics)


def test_what_a_killed_save_left_behind_is_not_a_checkpoint(tmp_path, one_device):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, tree(3))
    (tmp_path / "4.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 3
        checkpoints.restore(template(one_device), 3)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_reader_is_told_that_a_step_has_made_way(tmp_path):
    with Checkpoints(tmp_path) as writer, Checkpoints(tmp_path, read_only=True) as reader:
        writer.save(1, tree(1))
        writer.wait()
        step = reader.latest()
        writer.save(2, tree(2))
        writer.wait()
        for read in (reader.read, reader.metrics):
            with pytest.raises(InputError, match=r"^The checkpoint of step 1 in .* has made way for a newer one: .*"):
                read(step)
        assert reader.latest() == 2
