"""What a stream costs: decoding, starting in the middle, memory, and a small network fed by one.

    python benchmarks/photographs.py imagenet --to=FOLDER          # the stand-in for ImageNet
    python benchmarks/streams.py decode restart memory --data_dir=FOLDER
    python benchmarks/streams.py network                           # CIFAR-10, prepared in TFDS's own folder

Everything that is compared runs in turns in one process; medians of the rounds are printed.
"""

import argparse
import itertools
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

from jaxrec.data.batches import train_batches
from jaxrec.data.decoding import ASPECT, tensorflow
from jaxrec.data.prepared import prepared
from jaxrec.data.records import Records
from jaxrec.data.streaming import Stream, parallel_calls

BATCH = 128
IMAGENET = 1_281_167  # training images
AREA = 0.08


class Repeated:
    """A few pictures under many numbers: as large a set as one likes."""

    def __init__(self, pictures: list[bytes], count: int):
        self.pictures, self.count = pictures, count

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> bytes:
        return self.pictures[index % len(self.pictures)]

    def name(self, index: int) -> str:
        return f"picture {index}"


def stand_in(data_dir: str, count: int) -> list[bytes]:
    records = Records(prepared("imagenet2012", pathlib.Path(data_dir)))
    return [records.read(index) for index in range(min(count, len(records)))]


def images_per_second(batches: Iterator, seconds: float) -> float:
    next(batches)  # starts the pipeline
    next(batches)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        next(batches)
        count += 1
    return count * BATCH / (time.perf_counter() - began)


def bare(pictures: list[bytes]) -> Iterator[np.ndarray]:
    """The shortest loop of tf.data that crops at random as it decodes: what others build theirs on."""
    tf = tensorflow()

    def decode(encoded):
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(encoded),
            tf.zeros([1, 0, 4]),
            min_object_covered=0.0,
            aspect_ratio_range=ASPECT,
            area_range=(AREA, 1.0),
            use_image_if_no_bounding_boxes=True,
        )
        box = tf.concat([begin[:2], extent[:2]], 0)
        return tf.cast(tf.image.resize(tf.image.decode_and_crop_jpeg(encoded, box, channels=3), (224, 224)), tf.uint8)

    found = tf.data.Dataset.from_tensor_slices(pictures).repeat()
    return found.map(decode, num_parallel_calls=parallel_calls()).batch(BATCH).prefetch(2).as_numpy_iterator()


def ours(pictures: list[bytes], count: int, first: int = 0) -> Iterator[np.ndarray]:
    stream = Stream(Repeated(pictures, count), size=(224, 224), channels=3, crop=0.875, random_area=AREA)
    batches = train_batches({"image": stream}, batch_size=BATCH)
    return (batches.host(step)["image"] for step in itertools.count(first))


def one_core(pictures: list[bytes]) -> float:
    """Images a second that TensorFlow decodes whole on one core."""
    tf = tensorflow()
    began = time.perf_counter()
    for encoded in pictures[:200]:
        tf.io.decode_jpeg(encoded, channels=3)
    return 200 / (time.perf_counter() - began)


def decode(args: argparse.Namespace) -> None:
    pictures = stand_in(args.data_dir, 1024)
    rounds = [
        [images_per_second(make(), args.seconds) for make in (lambda: bare(pictures), lambda: ours(pictures, IMAGENET))]
        for _ in range(args.rounds)
    ]
    loop, stream = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(mine / theirs for theirs, mine in rounds)
    print(f"{np.mean([len(picture) for picture in pictures]) / 1000:.0f} kB each, {parallel_calls()} cores")
    print(f"whole pictures decoded on one core: {one_core(pictures):,.0f} images/s")
    print(f"bare loop {loop:,.0f}, stream {stream:,.0f} images/s: {ratio:.2f} (median of {args.rounds} rounds)")


def restart(args: argparse.Namespace) -> None:
    pictures, step = stand_in(args.data_dir, 1024), int(0.99 * IMAGENET / BATCH)
    next(ours(pictures, IMAGENET))  # TensorFlow is up
    began = time.perf_counter()
    next(ours(pictures, IMAGENET, first=step))
    print(f"first batch at step {step:,} of {IMAGENET / BATCH:,.0f}: {time.perf_counter() - began:.2f} s")


def resident_bytes() -> int:
    """The memory of this process that is in RAM."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(args: argparse.Namespace) -> None:
    pictures = stand_in(args.data_dir, 1024)
    for name, count in (("3,072 pictures, epoch by epoch", 3072), ("20 GB, in steps of 3,072 pictures", 190_000)):
        batches, start, seen = ours(pictures, count), resident_bytes(), []
        for _ in range(6):
            for _ in range(3072 // BATCH):
                next(batches)
            time.sleep(2)  # until as much is ready ahead as there may be
            seen.append((resident_bytes() - start) / 1e6)
        print(f"{name}: {', '.join(f'{size:.0f}' for size in seen)} MB besides the pictures")


def network(args: argparse.Namespace) -> None:
    import optax

    from jaxrec import compile_task, from_loss, losses, models
    from jaxrec.data import sources
    from jaxrec.data.transforms import unit_range

    programs = {}
    for kind, stream in (("resident", False), ("stream", True)):
        data = sources.tfds(dataset="cifar10", stream=stream)
        ids = data.splits["train"]
        batches = train_batches(data.arrays, batch_size=BATCH, ids=ids, transform=unit_range)
        model = models.CNN(widths=(32, 64, 64), hidden=(64,))
        program = compile_task(from_loss(model, losses.softmax_cross_entropy, optax.adam(1e-3)), batches)
        state, _ = program.train(program.init(), 0, 20)
        programs[kind] = [program, state, 20]
    rates: dict[str, list[float]] = {kind: [] for kind in programs}
    waits: list[float] = []
    for _ in range(args.rounds):
        for kind, held in programs.items():
            program, state, step = held
            waited, began, first = program.waited(), time.perf_counter(), step
            while time.perf_counter() - began < args.seconds:
                state, _ = program.train(state, step, step + 50)
                step += 50
            taken = time.perf_counter() - began
            rates[kind].append(BATCH * (step - first) / taken)
            held[1:] = state, step
            if kind == "stream":
                waits.append((program.waited() - waited) / taken)
    ratio = statistics.median(b / a for a, b in zip(rates["resident"], rates["stream"], strict=True))
    shown = ", ".join(f"{kind} {statistics.median(values):,.0f}" for kind, values in rates.items())
    print(f"seed CNN on CIFAR-10, batch {BATCH}: {shown} images/s: {ratio:.2f}; waiting {statistics.median(waits):.1%}")


MEASURES: dict[str, Callable[[argparse.Namespace], None]] = {
    "decode": decode,
    "restart": restart,
    "memory": memory,
    "network": network,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=MEASURES)
    parser.add_argument("--data_dir", default="~/tensorflow_datasets", help="where the stand-in was written to")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    for what in args.what:
        MEASURES[what](args)


if __name__ == "__main__":
    main()
