"""One contender of the speed benchmark: trains one network in turns, as peers/turns.py has it.

    python benchmarks/contender.py --kind=flax --network="MLP, 128" --data=FILE.npz [--channels-last] [--keep-memory]
        [--onednn]

speed.py starts it.
"""

import argparse
import importlib
import os
import platform
import sys

import numpy as np
from peers.malloc import keep_freed_memory
from peers.networks import NETWORKS
from peers.turns import Turns

# kind: (module, the environment that it wants)
KINDS = {
    "jaxrec": ("jaxrec_fit", {}),
    "flax": ("flax_linen", {}),
    "keras-tensorflow": ("keras_fit", {"KERAS_BACKEND": "tensorflow"}),
    "keras-jax": ("keras_fit", {"KERAS_BACKEND": "jax"}),
    "torch": ("torch_eager", {}),
}
ONEDNN = {
    "XLA_FLAGS": "--xla_cpu_use_onednn=true --xla_cpu_experimental_onednn_fusion_type=dot",
    "JAX_ENABLE_COMPILATION_CACHE": "false",  # such programs cannot be written
}
PACKAGES = ("jax", "flax", "keras", "tensorflow", "torch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--network", choices=NETWORKS, required=True)
    parser.add_argument("--data", required=True, help="an .npz file with image and label")
    parser.add_argument("--channels-last", action="store_true", help="torch's layout of images")
    parser.add_argument("--onednn", action="store_true", help="XLA's matrix products by oneDNN, docs/speed.md")
    parser.add_argument("--keep-memory", action="store_true", help="set malloc to keep what is freed")
    options = parser.parse_args()
    turns = Turns()
    if options.keep_memory:
        keep_freed_memory()
    module, environment = KINDS[options.kind]
    os.environ.update(environment, **(ONEDNN if options.onednn else {}))
    with np.load(options.data) as file:
        arrays = {name: file[name] for name in ("image", "label")}
    peer = importlib.import_module(f"peers.{module}")
    versions = {name: sys.modules[name].__version__ for name in PACKAGES if name in sys.modules}
    turns.facts["versions"] = {"python": platform.python_version(), **versions}
    peer.train(options.network, arrays, turns, options.channels_last)


if __name__ == "__main__":
    main()
