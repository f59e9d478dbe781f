"""What a training step takes of memory and of the network on 8, 64 and 512 devices, from programs compiled for as many.

    python benchmarks/scale.py [--only=resnet50] [--docs=docs/scale.md]

Nothing is trained, and no device is needed: XLA compiles the step for virtual devices of the CPU, a process for each
program, and says what it holds and where devices talk to each other. Operations are XLA's own (`layers.plain()`), in
float32, which is what a CPU computes in. How long that takes elsewhere is computed, from the speeds below.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
MODELS = {
    "resnet50": (
        "ResNet",
        {"blocks": (3, 4, 6, 3), "block": "bottleneck", "width": 64, "stem": "large", "shortcut": "project"},
    ),
    "vit_l16": ("ViT", {"patch": 16, "width": 1024, "depth": 24, "heads": 16, "mlp": 4096}),
}
RULES = ("replicate", "fsdp")
DEVICES = (8, 64, 512)
BATCH = 1024  # images of 224 x 224 x 3, over all devices
FLOPS = 4e14  # a second, of a device: 40 % of the 989 TFLOP/s in bfloat16 that an H100 has at most
NEAR, FAR = 450e9, 50e9  # bytes a second that a device sends: to 7 others by NVLink, to more by 400 Gbit/s
HOP = 20e-6  # seconds that a collective takes at least, however little it carries
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Talk(NamedTuple):
    """Collectives of one kind in a program."""

    calls: int
    payload: int  # bytes of the whole arrays that they add up, gather or cut
    sent: int  # bytes that each device sends for them in a ring


def collectives(text: str, devices: int) -> dict[str, Talk]:
    """The collectives of a program over all devices, by their kind, from the text of its compiled HLO.

    What each device sends in a ring of n is, of p bytes, 2 p (n - 1) / n for an all-reduce, and p (n - 1) / n for an
    all-gather to p, a reduce-scatter of p and an all-to-all; all of p for a permutation.
    """
    calls, payload = collections.Counter(), collections.Counter()
    text = re.sub(r"/\*.*?\*/", "", text)  # numbers in long tuples
    for types, kind in re.findall(rf"= (\(?[^=]+?\)?) ({'|'.join(COLLECTIVES)})\(", text):
        calls[kind] += 1
        whole = sum(map(size_of, re.findall(r"([a-z]+\d*)\[([\d,]*)\]", types)))
        payload[kind] += whole * devices if kind == "reduce-scatter" else whole
    most = (devices - 1) / devices
    times = {"all-reduce": 2 * most, "collective-permute": 1.0}
    return {kind: Talk(calls[kind], payload[kind], round(times.get(kind, most) * payload[kind])) for kind in calls}


def size_of(array: tuple[str, str]) -> int:
    """The bytes of an array of HLO: ("f32", "8,16") -> 512."""
    kind, shape = array
    bits = int(re.sub(r"\D", "", kind) or 8)  # pred is a byte
    elements = 1
    for side in filter(None, shape.split(",")):
        elements *= int(side)
    return elements * bits // 8


def compiled(model: str, rule: str, devices: int) -> dict:
    """The child: compiles a step for virtual devices and says what is in it."""
    import jax
    import jax.numpy as jnp
    import optax

    from jaxrec import layers, losses, models
    from jaxrec.sharding import data_parallel
    from jaxrec.tasks.one_loss import from_loss

    name, arguments = MODELS[model]
    tx = optax.sgd(0.1, momentum=0.9) if model == "resnet50" else optax.adamw(1e-3, weight_decay=0.1)
    task = from_loss(getattr(models, name)(classes=1000, **arguments), losses.softmax_cross_entropy, tx)
    parallel = data_parallel(rule=rule)
    assert parallel.mesh.size == devices

    def step(state, rows, key):
        batch = {**rows, "image": rows["image"].astype(jnp.float32) / 255, "mask": jnp.ones(BATCH, bool)}
        return parallel.spread(task.train_step)(state, batch, key)

    kinds = {"image": ((224, 224, 3), jnp.uint8), **dict.fromkeys(("label", "id", "epoch"), ((), jnp.int32))}
    kinds["seed"] = ((), jnp.uint32)
    split = jax.sharding.NamedSharding(parallel.mesh, jax.sharding.PartitionSpec(parallel.mesh.axis_names[0]))
    rows = {key: jax.ShapeDtypeStruct((BATCH, *shape), kind, sharding=split) for key, (shape, kind) in kinds.items()}
    key = jax.eval_shape(lambda: jax.random.key(0))
    with layers.plain():
        image = {**rows, "image": jax.ShapeDtypeStruct(rows["image"].shape, jnp.float32)}
        shapes = jax.eval_shape(task.init, key, {**image, "mask": jax.ShapeDtypeStruct((BATCH,), bool)})
        shardings = parallel.state(shapes)
        state = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, shardings)
        began = time.monotonic()
        program = (
            jax.jit(step, out_shardings=(shardings, parallel.whole), donate_argnums=0)
            .lower(state, rows, key)
            .compile({"xla_backend_optimization_level": 0})
        )
    memory = program.memory_analysis()
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(shapes.params)),
        "state": memory.alias_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "flops": program.cost_analysis()["flops"],
        "talk": collectives(program.as_text(), devices),
        "seconds": time.monotonic() - began,
    }


def measure(model: str, rule: str, devices: int) -> Mapping:
    """What a child of its own finds."""
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, __file__, "--child", model, rule, str(devices)]
    found = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def row(model: str, rule: str, devices: int, found: Mapping) -> str:
    """A line of the table: what was compiled, and behind it what follows from it at the speeds above."""
    talk = {kind: Talk(*numbers) for kind, numbers in found["talk"].items()}
    sent = sum(each.sent for each in talk.values())
    if rule == "fsdp":  # a CPU adds up by an all-reduce, of which each device keeps its part
        sent -= talk["all-reduce"].sent // 2
    compute, moved = found["flops"] / FLOPS, sent / (NEAR if devices == 8 else FAR)
    waited = HOP * sum(each.calls for each in talk.values())
    calls = ", ".join(f"{each.calls} {kind}" for kind, each in talk.items())
    cells = [model, rule, f"{devices}", f"{BATCH // devices}", f"{found['state'] / 1e6:,.1f}"]
    cells += [f"{found['temporary'] / 1e9:,.2f}", calls, f"{sum(each.sent for each in talk.values()) / 1e6:,.0f}"]
    cells += [f"{sent / 1e6:,.0f}", *(f"{1e3 * seconds:,.2f}" for seconds in (compute, moved, waited))]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MODELS, help="prints this one's lines only")
    parser.add_argument("--docs", type=pathlib.Path, default=ROOT / "docs/scale.md")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        model, rule, devices = options.child
        print(json.dumps(compiled(model, rule, int(devices))))
        return
    head = "model | rule | devices | images each | state, MB | temporary, GB | collectives | sent, MB"
    head += " | with reduce-scatter, MB | compute, ms | sending, ms | hops, ms"
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    print(*lines, sep="\n")
    for model in [options.only] if options.only else MODELS:
        for rule in RULES:
            for devices in DEVICES:
                lines.append(row(model, rule, devices, measure(model, rule, devices)))
                print(lines[-1], flush=True)
    if not options.only:
        from peers import documents  # beside this file: found where it is run as a script

        documents.write_between(options.docs, "scale", lines)


if __name__ == "__main__":
    main()
