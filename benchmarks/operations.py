"""What each operation of the layers costs on this machine, so that a new release of JAX can be checked in a minute.

    python benchmarks/operations.py [--batch=64] [--seconds=0.4]

For each operation: milliseconds and GFLOP/s as jaxrec's layers run it, milliseconds of XLA's own operation (the layers
under `plain()`), the ratio of the two, and GFLOP/s of one matrix product that multiplies and adds as often as the
forward pass, which is what the hardware can give. The two forms take turns in one process and the medians are compared:
the speed of a shared machine drifts. GFLOP/s count the multiplications and additions that the operation is defined by,
whatever a form does besides.
"""

import argparse
import functools
import math
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from peers.malloc import keep_freed_memory

from jaxrec import layers

# name: (side of the image, channels in, channels out, kernel, stride, padding)
CONVOLUTIONS = {
    "conv 32x32x3 -> 32, k3": (32, 3, 32, 3, 1, "VALID"),
    "conv 15x15x32 -> 64, k3": (15, 32, 64, 3, 1, "VALID"),
    "conv 6x6x64 -> 64, k3": (6, 64, 64, 3, 1, "VALID"),
    "conv 7x7x128 -> 256, k3 same": (7, 128, 256, 3, 1, "SAME"),
    "conv 32x32x16 -> 16, k3 same": (32, 16, 16, 3, 1, "SAME"),
    "conv 16x16x64 -> 128, k4 s2 same": (16, 64, 128, 4, 2, "SAME"),
    "conv 8x8x256 -> 64, k1": (8, 256, 64, 1, 1, "SAME"),
}
TRANSPOSED = {
    "transposed 8x8x64 -> 32, k4 s2": (8, 64, 32, 4, 2, "SAME"),
    "transposed 16x16x32 -> 3, k4 s2": (16, 32, 3, 4, 2, "SAME"),
    "transposed 7x7x64 -> 32, k5 s2": (7, 64, 32, 5, 2, "SAME"),
}
POOLS = {"max pool 30x30x32": (30, 32, layers.max_pool), "avg pool 30x30x32": (30, 32, layers.avg_pool)}


def medians(functions: list[Callable], arguments: tuple, seconds: float) -> list[float]:
    """Median seconds of each compiled function; they take turns for about `seconds` each."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        jax.block_until_ready(function(*arguments))
    end = time.perf_counter() + seconds * len(functions)
    while len(times[0]) < 3 or time.perf_counter() < end:
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def compile_both(function: Callable, arguments: tuple) -> list[Callable]:
    """The function as jaxrec's layers run it, and as XLA does."""
    ours = jax.jit(function).lower(*arguments).compile()
    with layers.plain():
        return [ours, jax.jit(function).lower(*arguments).compile()]


def random(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def product_rate(m: int, k: int, n: int, seconds: float) -> float:
    """GFLOP/s of an [m, k] by [k, n] matrix product."""
    arguments = random(m, k), random(k, n)
    (taken,) = medians([jax.jit(jnp.matmul)], arguments, seconds)
    return 2 * m * k * n / taken / 1e9


def show(name: str, part: str, times: list[float], flops: float = math.nan, limit: float = math.nan) -> None:
    ours, plain = times
    rate = f"{flops / ours / 1e9:9.0f} {limit:9.0f}" if flops == flops else f"{'':19}"
    print(f"{name:34} {part:16} {ours * 1e3:9.2f} {rate} {plain * 1e3:9.2f} {plain / ours:8.1f}", flush=True)


def measure_convolution(layer: type, name: str, case: tuple, batch: int, seconds: float) -> None:
    side, c, d, k, stride, padding = case
    module = layer(d, (k, k), strides=(stride, stride), padding=padding, use_bias=False)
    x, kernel = random(batch, side, side, c), random(k, k, c, d)

    def forward(x, kernel):
        return module.apply({"params": {"kernel": kernel}}, x)

    parts = {
        "forward": lambda x, kernel, cotangent: forward(x, kernel),
        "input gradient": lambda x, kernel, cotangent: jax.vjp(lambda x: forward(x, kernel), x)[1](cotangent),
        "weight gradient": lambda x, kernel, cotangent: jax.vjp(lambda kernel: forward(x, kernel), kernel)[1](
            cotangent
        ),
    }
    y = jax.eval_shape(forward, x, kernel)
    arguments = x, kernel, random(*y.shape)
    # Every output of a convolution, every input of a transposed one meets the whole kernel.
    pixels = batch * (math.prod(y.shape[1:3]) if layer is layers.Conv else side * side)
    size = (pixels, k * k * c, d) if layer is layers.Conv else (pixels, c, k * k * d)
    limit = product_rate(*size, seconds)
    for part, function in parts.items():
        show(name, part, medians(compile_both(function, arguments), arguments, seconds), 2 * math.prod(size), limit)


def measure_pool(name: str, side: int, c: int, pool: Callable, batch: int, seconds: float) -> None:
    run = functools.partial(pool, window_shape=(2, 2), strides=(2, 2))
    x = random(batch, side, side, c)
    arguments = x, random(*jax.eval_shape(run, x).shape)
    parts = {"forward": lambda x, cotangent: run(x), "gradient": lambda x, cotangent: jax.vjp(run, x)[1](cotangent)}
    for part, function in parts.items():
        show(name, part, medians(compile_both(function, arguments), arguments, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.4, help="for each operation and form")
    options = parser.parse_args()
    keep_freed_memory()  # page faults are no operation's cost
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, batch {options.batch}, float32, medians\n")
    print(f"{'operation':34} {'':16} {'ms':>9} {'GFLOP/s':>9} {'product':>9} {'XLA ms':>9} {'XLA/ours':>8}")
    for name, case in CONVOLUTIONS.items():
        measure_convolution(layers.Conv, name, case, options.batch, options.seconds)
    for name, case in TRANSPOSED.items():
        measure_convolution(layers.ConvTranspose, name, case, options.batch, options.seconds)
    for name, case in POOLS.items():
        measure_pool(name, *case, options.batch, options.seconds)


if __name__ == "__main__":
    main()
