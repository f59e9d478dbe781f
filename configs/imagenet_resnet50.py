"""ResNet-50 on ImageNet, the recipe of Goyal et al. (2017) at a batch of 256, for accelerators.

    python launch.py prepare imagenet2012 --manual_dir=FOLDER   # FOLDER holds the two archives of ILSVRC2012
    python launch.py --config=configs/imagenet_resnet50.py

Not run in full yet (n = 0): its aim is 76 %. Goyal et al. report 76.4 % (90 epochs, one centre crop of 224 pixels), on
eight GPUs. Images are read and decoded ahead of the step; `launch.py bench_data` says how many a second that is: 2
cores manage about a thousand, so 40 keep up with ten thousand images/s. That it learns was tried on 2 cores, on a
stand-in (docs/data.md).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 256, "epochs": 90, "evaluate_train": False},
            "data": {
                "name": "tfds",
                "dataset": "imagenet2012",
                "test_split": "validation",  # whose labels are public; validation is held out of train
                "validation": 0.01,
                "size": 224,
                "crop": 0.875,
                "random_area": 0.08,
            },
            "augment": ({"name": "random_flip"},),
            "model": {
                "name": "ResNet",
                "blocks": (3, 4, 6, 3),
                "block": "bottleneck",
                "width": 64,
                "stem": "large",
                "shortcut": "project",
                "dtype": "bfloat16",
            },
            "loss": {"name": "softmax_cross_entropy"},
            "optimizer": {
                "name": "sgd",
                "learning_rate": {
                    "name": "step_decay",
                    "peak": 0.1,
                    "milestones": (30 / 90, 60 / 90, 80 / 90),
                    "warmup": 5 / 90,
                },
                "momentum": 0.9,
                "nesterov": True,
            },
            "updates": {"l2": 1e-4},
        }
    )
