"""How far the maps of `launch.py explain` can be believed, over many images of a recogniser's run.

    python benchmarks/explanations.py --run=runs/digits_cnn [--images=200 --split=test --cover=blur --layer=Conv_1
                                       --methods=grad_cam,occlusion --other=runs/digits_of_random_labels]

A line for each method: the area under the deletion curve (small is good) and under the insertion curve (large is good),
each with its difference from a random map's, image by image; and Spearman's correlation with the map of the same
network with shuffled weights, and of another run, such as one that has learned random labels: maps that explain what a
network has learned have none (Adebayo et al., 2018). Means over the images and their standard errors. `--cover=blur`
covers pixels by the blurred image instead of the mean colour. Grad-CAM is compared with a random map of as few places
as the feature map has, the others with one of single pixels.
"""

import argparse
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from experiments.commands.explain import areas_of, data_of, floats_of  # noqa: E402
from experiments.explained import subject_of  # noqa: E402
from experiments.stored import config_of, notes_of, weights_of  # noqa: E402
from jaxrec import explain  # noqa: E402

BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=pathlib.Path, required=True)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--split", default="test")
    parser.add_argument("--layer", help="whose feature map Grad-CAM weighs")
    parser.add_argument("--cover", choices=["mean", "blur"], default="mean")
    parser.add_argument("--methods", help="which ones, with commas between; all by default")
    parser.add_argument("--other", type=pathlib.Path, help="a run whose maps are compared too")
    args = parser.parse_args()
    config, notes = config_of(args.run, "--run"), notes_of(args.run, "--run")
    own = data_of(args.run, config, notes)
    ids = np.random.default_rng(0).permutation(own.splits[args.split])[: args.images]
    batches = np.split(floats_of(own.image[ids]), range(BATCH, len(ids), BATCH))
    weights, step, _ = weights_of(args.run, "--run")
    subject = subject_of(config, notes, weights, step, layer=args.layer)
    others = {"shuffled weights": subject_of(config, notes, shuffled(weights), step, layer=args.layer)}
    if args.other:
        theirs = config_of(args.other, "--other"), notes_of(args.other, "--other")
        others[args.other.name] = subject_of(*theirs, *weights_of(args.other, "--other")[:2], layer=args.layer)
    answer = jax.jit(lambda image: subject.answers(image, None)["logits"].argmax(-1))
    targets = [np.asarray(answer(batch)) for batch in batches]
    areas = areas_of(subject, blurred if args.cover == "blur" else None)
    draw = np.random.default_rng(1)
    maps = {"random": lambda image, target: draw.random(image.shape[:3], np.float32)}
    chance = {}  # method -> the random map that it is compared with, where that is another
    if "grad_cam" in subject.maps:
        apply = explain.with_layer_names(lambda image: subject.answers(image, None)["logits"])
        places = [
            shape.shape for name, shape in explain.feature_maps(apply, batches[0][:1]) if args.layer in (None, name)
        ]
        height, width = places[-1][1:3]
        chance["grad_cam"] = f"random, {height}x{width}"
        maps[chance["grad_cam"]] = lambda image, target: jax.image.resize(
            draw.random((len(image), height, width), np.float32), image.shape[:3], "linear"
        )
    wanted = args.methods.split(",") if args.methods else subject.maps
    maps |= {name: jax.jit(map_) for name, map_ in subject.maps.items() if name in wanted}
    print(f"{len(ids)} images of {args.split}, {args.run}, covered by the {args.cover}")
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, map_ in maps.items():
        heats = [np.asarray(map_(image, target), np.float32) for image, target in zip(batches, targets, strict=True)]
        each = [jax.device_get(areas(*of)) for of in zip(batches, targets, heats, strict=True)]
        found[name] = {curve: np.concatenate([of[curve] for of in each]) for curve in each[0]}
        line = [f"{curve} {told(values)}" for curve, values in found[name].items()]
        other = chance.get(name, "random")
        line += [f"{told(values - found[other][curve])} to {other}" for curve, values in found[name].items()]
        for called, network in others.items() if name in subject.maps else ():
            other_map = jax.jit(network.maps[name])
            theirs = [np.asarray(other_map(*of)) for of in zip(batches, targets, strict=True)]
            pairs = zip(*(np.concatenate(each).reshape(len(ids), -1) for each in (heats, theirs)), strict=True)
            same = [stats.spearmanr(*pair).statistic for pair in pairs if min(map(np.ptp, pair)) > 0]
            line.append(f"correlation with {called} {told(np.array(same))} (n = {len(same)})")
        print(f"{name:>22}: {', '.join(line)}", flush=True)


def blurred(image: jax.Array) -> jax.Array:
    """Images [N, H, W, C] under a Gaussian of an eighth of their side, the border repeated."""
    for axis in (1, 2):
        size = image.shape[axis]
        place = np.arange(size)
        reach = np.arange(-size, 2 * size)
        weight = np.exp(-0.5 * np.square((place[:, None] - reach) / (size / 8)))
        fold = np.zeros((size, size))  # what lies beyond the border is the border's
        np.add.at(fold, (place[:, None], np.clip(reach, 0, size - 1)[None]), weight / weight.sum(1, keepdims=True))
        image = jnp.moveaxis(jnp.tensordot(image, jnp.asarray(fold, jnp.float32), axes=(axis, 1)), -1, axis)
    return image


def shuffled(weights: dict) -> dict:
    """Learned weights, the numbers of each array in a random order: the scale is kept, what was learned is not."""
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda leaf: rng.permutation(np.ravel(leaf)).reshape(leaf.shape), weights["params"])
    return {**weights, "params": params}


def told(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std() / max(1, len(values)) ** 0.5:.3f}"


if __name__ == "__main__":
    main()
