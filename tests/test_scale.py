"""What benchmarks/scale.py reads from a compiled program: by hand, and of a step whose bytes are known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.scale import collectives, size_of
from jaxrec.sharding import AXIS

TEXT = """
HloModule jit_step, num_partitions=8

%add (x: f32[], y: f32[]) -> f32[] { ... }

ENTRY %main {
  %p = f32[4,16]{1,0} parameter(0)
  %all-gather = f32[32,16]{1,0} all-gather(%p), channel_id=1, replica_groups=[1,8]<=[8], dimensions={0}
  %all-reduce = (f32[32,16]{1,0}, /*index=1*/bf16[10]{0}) all-reduce(%g, %h), channel_id=2, to_apply=%add
  %all-reduce.1 = f32[] all-reduce(%l), channel_id=3, to_apply=%add
  %get-tuple-element = f32[32,16]{1,0} get-tuple-element(%all-reduce), index=0
  %reduce-scatter = f32[4,16]{1,0} reduce-scatter(%g), channel_id=4, dimensions={0}, to_apply=%add
  ROOT %fusion = f32[4,16]{1,0} fusion(%p, %reduce-scatter), kind=kLoop, calls=%fused
}
"""


def test_the_bytes_of_a_program_are_those_that_its_text_says():
    whole = 32 * 16 * 4
    assert collectives(TEXT, 8) == {
        "all-gather": (1, whole, whole * 7 // 8),
        "all-reduce": (2, whole + 20 + 4, round(2 * 7 / 8 * (whole + 24))),
        "reduce-scatter": (1, whole, whole * 7 // 8),
    }
    assert collectives("%x = f32[8] add(%all-reduce.1, %y)", 8) == {}


@pytest.mark.parametrize(
    ("array", "size"),
    [(("f32", "8,16"), 512), (("bf16", "3"), 6), (("pred", "5"), 5), (("s64", ""), 8), (("u8", "0"), 0)],
)
def test_the_size_of_an_array(array, size):
    assert size_of(array) == size


def test_a_compiled_product_adds_up_its_result_once():
    """x [B, D] in parts, w [D, K] whole: the gradient of w is a sum over devices of D * K floats."""
    mesh = jax.make_mesh((8,), (AXIS,))
    part, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec(AXIS), PartitionSpec()))
    x = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=part)
    w = jax.ShapeDtypeStruct((32, 16), jnp.float32, sharding=whole)
    step = jax.jit(jax.grad(lambda w, x: jnp.sum(jnp.tanh(x @ w))), out_shardings=whole)
    found = collectives(step.lower(w, x).compile().as_text(), 8)
    assert found == {"all-reduce": (1, 32 * 16 * 4, 32 * 16 * 4 * 2 * 7 // 8)}
