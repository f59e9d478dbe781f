"""Sets of real photographs to measure on, cut from those that come with scikit-image and scikit-learn.

    python benchmarks/photographs.py imagenet --to=FOLDER [--train=4096]    a stand-in for TFDS's imagenet2012
    python benchmarks/photographs.py crops --to=FOLDER                      12 classes of 64x64 crops, as PNG files
    python benchmarks/photographs.py baselines --to=FOLDER                  what simple methods make of these crops

The stand-in has imagenet2012's name, version, features and file format, and JPEGs of its mean size (500 x 375 pixels,
110 kB; grain makes up for what enlarging has smoothed). It has 66 of the 1,000 classes: a class is a third of a
photograph, an image a part of it at random. Classes of the crops are photographs, their splits different parts of each,
so that no pixel of a test image is in a training image.
"""

import argparse
import io
import os
import pathlib

import numpy as np
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png"),
    *("coins.png", "color.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png"),
    *("motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png", "horse.png"),
    *("china.jpg", "flower.jpg"),
)
CROPPED = (
    *("brick.png", "grass.png", "gravel.png", "coffee.png", "chelsea.png", "china.jpg", "flower.jpg", "ihc.png"),
    *("motorcycle_left.png", "hubble_deep_field.jpg", "rocket.jpg", "retina.jpg"),
)
THIRDS = 3
SIZE = (500, 375)  # width, height
PLAIN = 4  # a crop of a smaller deviation shows nothing, such as the black around the retina
GRAIN = 8  # deviation of brightness, of 255


def photograph(name: str) -> Image.Image:
    """One of the photographs, in colour."""
    import skimage.data
    import sklearn.datasets

    beside = pathlib.Path(sklearn.datasets.__file__).parent / "images" / name
    return Image.open(beside if beside.exists() else pathlib.Path(skimage.data.__file__).parent / name).convert("RGB")


def part(whole: Image.Image, third: int, rng: np.random.Generator) -> Image.Image:
    """A rectangle of a third of a photograph, at random, as large as images of ImageNet are."""
    width, height = whole.size
    share = rng.uniform(0.5, 1.0)
    across, down = share * width / THIRDS, share * height * rng.uniform(0.7, 1.0)
    left = third * width / THIRDS + rng.uniform(0, width / THIRDS - across)
    top = rng.uniform(0, height - down)
    turned = SIZE if rng.random() < 0.75 else SIZE[::-1]
    image = whole.resize(turned, Image.Resampling.BICUBIC, box=(left, top, left + across, top + down))
    grain = rng.normal(0, GRAIN, (turned[1], turned[0], 1))
    return Image.fromarray(np.uint8(np.clip(np.asarray(image) + grain, 0, 255)))


def jpegs(count: int, seed: int):
    """Yields (bytes, label) of as many parts, the classes in turn."""
    rng, wholes = np.random.default_rng(seed), [photograph(name) for name in PHOTOGRAPHS]
    for number in range(count):
        label = number % (len(wholes) * THIRDS)
        stream = io.BytesIO()
        part(wholes[label // THIRDS], label % THIRDS, rng).save(stream, "JPEG", quality=96)
        yield stream.getvalue(), label


def imagenet(to: pathlib.Path, train: int, validation: int, file_format: str) -> None:
    """Writes the stand-in for imagenet2012 into `to`."""
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():

        class Imagenet2012(tfds.builder_cls("imagenet2012")):
            name = "imagenet2012"

            def _split_generators(self, dl_manager):
                del dl_manager
                counts = {"train": train, "validation": validation}
                return {split: self._generate_examples(counts[split], seed) for seed, split in enumerate(counts)}

            def _generate_examples(self, count: int, seed: int):
                for number, (image, label) in enumerate(jpegs(count, seed)):
                    name = f"n{label:08}_{number}.JPEG"
                    yield name, {"image": io.BytesIO(image), "label": label, "file_name": name}

    builder = Imagenet2012(data_dir=str(to), file_format=file_format)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(to)))
    sizes = builder.info.splits["train"].num_bytes / builder.info.splits["train"].num_examples
    print(f"{builder.data_dir}: {train} and {validation} JPEGs, {sizes / 1000:.0f} kB in the mean.")


def crops(to: pathlib.Path, per_class: int, size: int = 64) -> None:
    """Writes train/, val/ and test/ of the crops: the left 60 % of each photograph, the next 15 %, the rest."""
    rng = np.random.default_rng(0)
    for name in CROPPED:
        whole = photograph(name)
        width, height = whole.size
        for split, begin, end, share in (("train", 0, 0.6, 1.0), ("val", 0.6, 0.75, 0.2), ("test", 0.75, 1.0, 0.4)):
            folder = to / split / pathlib.Path(name).stem
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(round(per_class * share)):
                crop = whole
                while crop is whole or np.std(crop) < PLAIN:
                    left = rng.integers(begin * width, end * width - size, endpoint=True)
                    top = rng.integers(0, height - size, endpoint=True)
                    crop = whole.crop((left, top, left + size, top + size))
                crop.save(folder / f"{number}.png")


def baselines(folder: pathlib.Path) -> None:
    """Prints the test accuracy of nearest neighbours on raw pixels, and of a linear classifier of HOG features."""
    from skimage.feature import hog
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from jaxrec.data.folders import folder as read

    data = read(path=str(folder))
    pixels = data.image.reshape(len(data.image), -1).astype(np.float32) / 255
    cells = {"orientations": 9, "pixels_per_cell": (8, 8), "cells_per_block": (2, 2), "channel_axis": -1}
    features = np.stack([hog(image, **cells) for image in data.image])
    methods = {
        "5 nearest neighbours, pixels": (KNeighborsClassifier(5), pixels),
        "logistic regression, HOG": (
            make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)),
            features,
        ),
    }
    for name, (method, x) in methods.items():
        train, test = (data.splits[split] for split in ("train", "test"))
        print(f"{name}: {method.fit(x[train], data.label[train]).score(x[test], data.label[test]):.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["imagenet", "crops", "baselines"])
    parser.add_argument("--to", type=pathlib.Path, required=True)
    parser.add_argument("--train", type=int, default=4096, help="images of the stand-in's train split")
    parser.add_argument("--validation", type=int, default=512)
    parser.add_argument("--file_format", choices=["tfrecord", "array_record"], default="tfrecord")
    parser.add_argument("--per_class", type=int, default=300, help="training crops of each class")
    args = parser.parse_args()
    if args.what == "imagenet":
        imagenet(args.to, args.train, args.validation, args.file_format)
    elif args.what == "crops":
        crops(args.to, args.per_class)
    else:
        baselines(args.to)


if __name__ == "__main__":
    main()
