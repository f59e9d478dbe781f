"""How far the maps of `launch.py explain` can be believed, over many images of a recogniser's run.

    python benchmarks/explanations.py --run=runs/digits_cnn [--images=200] [--split=test --layer=Conv_1]

A line for each method: the area under the deletion curve (small is good) and under the insertion curve (large is good),
against a random map, and Spearman's correlation with the map of the same network with random weights, which a map that
explains the network would not have (Adebayo et al., 2018). Means over the images and their standard errors.
"""

import argparse
import pathlib
import sys

import jax
import numpy as np
from scipy import stats

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from experiments.commands.explain import areas_of, data_of, floats_of  # noqa: E402
from experiments.explained import subject_of  # noqa: E402
from experiments.stored import config_of, notes_of, weights_of  # noqa: E402

BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=pathlib.Path, required=True)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--split", default="test")
    parser.add_argument("--layer", help="whose feature map Grad-CAM weighs")
    args = parser.parse_args()
    config, notes = config_of(args.run, "--run"), notes_of(args.run, "--run")
    own = data_of(args.run, config, notes)
    ids = np.random.default_rng(0).permutation(own.splits[args.split])[: args.images]
    batches = np.split(floats_of(own.image[ids]), range(BATCH, len(ids), BATCH))
    weights, step, _ = weights_of(args.run, "--run")
    subject, untrained = (
        subject_of(config, notes, each, step, layer=args.layer) for each in (weights, shuffled(weights))
    )
    answer = jax.jit(lambda image: subject.answers(image, None)["logits"].argmax(-1))
    targets, areas = [np.asarray(answer(batch)) for batch in batches], areas_of(subject)
    random = np.random.default_rng(1)
    maps = {"random": lambda image, target: random.random(image.shape[:3], np.float32)}
    maps |= {name: jax.jit(map_) for name, map_ in subject.maps.items()}
    print(f"{len(ids)} images of {args.split}, {args.run}")
    for name, map_ in maps.items():
        heats = [np.asarray(map_(image, target), np.float32) for image, target in zip(batches, targets, strict=True)]
        found = [
            jax.device_get(areas(image, target, heat))
            for image, target, heat in zip(batches, targets, heats, strict=True)
        ]
        line = [f"{curve} {told(np.concatenate([each[curve] for each in found]))}" for curve in found[0]]
        if name in untrained.maps:
            others = zip(batches, targets, strict=True)
            other = np.concatenate([np.asarray(jax.jit(untrained.maps[name])(*each)) for each in others])
            pairs = zip(np.concatenate(heats).reshape(len(ids), -1), other.reshape(len(ids), -1), strict=True)
            same = [stats.spearmanr(*pair).statistic for pair in pairs if min(map(np.ptp, pair)) > 0]
            line.append(f"correlation {told(np.array(same))} (n = {len(same)})")
        print(f"{name:>22}: {', '.join(line)}", flush=True)


def shuffled(weights: dict) -> dict:
    """Learned weights, the numbers of each array in a random order: the scale is kept, what was learned is not."""
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda leaf: rng.permutation(np.ravel(leaf)).reshape(leaf.shape), weights["params"])
    return {**weights, "params": params}


def told(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std() / max(1, len(values)) ** 0.5:.3f}"


if __name__ == "__main__":
    main()
