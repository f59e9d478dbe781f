"""Sets that TensorFlow Datasets has prepared on disk, and how one is prepared; `records.py` reads them."""

import hashlib
import pathlib
import socket
import urllib.parse
import urllib.request
from types import ModuleType
from typing import Any, NamedTuple

from jaxrec.data.decoding import tensorflow
from jaxrec.data.splits import SPLITS
from jaxrec.errors import InputError, did_you_mean, reason
from jaxrec.machine.folders import cache_folder

AGAIN = "Prepare the set again."


class Prepared(NamedTuple):
    """A set on disk."""

    name: str  # as TFDS understands it
    builder: Any  # of TFDS
    splits: tuple[str, ...]  # its names of those that are read

    @property
    def shape(self) -> tuple[int | None, int | None, int]:
        """Of an image; None for a side that differs."""
        return self.builder.info.features["image"].shape

    @property
    def classes(self) -> list[str]:
        """Their names."""
        return list(self.builder.info.features["label"].names)

    @property
    def sizes(self) -> dict[str, int]:
        """The examples of each split."""
        return {split: self.builder.info.splits[split].num_examples for split in self.splits}

    @property
    def by_number(self) -> bool:
        """Whether its files find a record by its number, as ArrayRecords do."""
        return self.builder.info.file_format.value == "array_record"

    @property
    def description(self) -> pathlib.Path:
        """The file that describes this preparation."""
        return pathlib.Path(self.builder.data_dir) / "dataset_info.json"


def newest(dataset: str, root: pathlib.Path) -> pathlib.Path | None:
    """The description of the newest version prepared under `root`, or None where none is."""
    versions = (path for path in (root / dataset).glob("*/dataset_info.json") if path.parent.name[0].isdigit())
    return max(versions, key=lambda path: [int(n) for n in path.parent.name.split(".") if n.isdigit()], default=None)


def cache_file(dataset: str, description: pathlib.Path, ending: str = ".npz") -> pathlib.Path:
    """Where what was read of a prepared set is kept.

    Its name holds a digest of the set's own description (version, splits, shard lengths), so another version or
    another preparation of the set never meets an old cache.
    """
    digest = hashlib.sha256(description.read_bytes()).hexdigest()[:12]
    return cache_folder() / "datasets" / f"{dataset.replace('/', '-')}-{description.parent.name}-{digest}{ending}"


def tensorflow_datasets() -> ModuleType:
    """TFDS, with TensorFlow kept off every accelerator.

    Raises:
      InputError: one of them is not installed.
    """
    tensorflow()
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(
            f"Reading a TFDS set needs tensorflow-datasets ({error}). Install it with `pip install "
            "tensorflow-datasets`, or use data.name = 'npz' or 'digits'."
        ) from None
    return tfds


def builder_of(dataset: str, root: pathlib.Path) -> Any:
    """The builder by which TFDS prepares and reads a set.

    Raises:
      InputError: there is no such set.
    """
    tfds, where = tensorflow_datasets(), f"data.dataset = {dataset!r}"
    try:
        return tfds.builder(dataset, data_dir=str(root))
    except tfds.core.registered.DatasetNotFoundError:
        if (root / dataset).exists():
            raise InputError(f"{where}: {root / dataset} is not whole, features.json is missing. {AGAIN}") from None
        names = tfds.list_builders(with_community_datasets=False)
        raise InputError(f"{where}: no such TFDS set.{did_you_mean(dataset, names)}") from None
    except Exception as error:  # of TFDS, of json, of protobuf: what is meant by a description that is none
        raise InputError(
            f"{where}: cannot be opened ({reason(error)[:200]}). If it is prepared in {root / dataset}, "
            f"dataset_info.json or features.json there is damaged. {AGAIN}"
        ) from None


def prepared(dataset: str, root: pathlib.Path, test_split: str = "test") -> Prepared:
    """A set that is on disk.

    Args:
      dataset: the TFDS name.
      root: where TFDS keeps its sets.
      test_split: its name of the test split. Where that is another, its own "test" is not read.

    Raises:
      InputError: it is unknown, not prepared, no set of labelled images, or has no such split.
    """
    builder = builder_of(dataset, root)
    if not builder.is_prepared():
        # Downloading belongs to a machine and a moment that the user picks: without a network TFDS tries for minutes.
        raise InputError(
            f"data.dataset = {dataset!r}: not prepared, looked in {builder.data_dir}. Where there is a network, run "
            f"`python launch.py prepare {dataset} --data_dir={root}`; elsewhere do so and copy {root / dataset} over."
        )
    features = builder.info.features
    if not {"image", "label"} <= set(features or {}):
        raise InputError(f"data.dataset = {dataset!r}: needs features image and label, has {sorted(features or {})}.")
    if test_split != "test" and test_split not in set(builder.info.splits) - {"train"}:
        known = ", ".join(sorted(set(builder.info.splits) - {"train"})) or "none but train"
        raise InputError(f"data.test_split = {test_split!r}: {dataset} has {known}. Name one.")
    names = [split for split in SPLITS if split not in ("test", test_split)] + [test_split]
    return Prepared(dataset, builder, tuple(name for name in names if name in builder.info.splits))


def prepare_set(dataset: str, root: pathlib.Path, manual_dir: pathlib.Path | None = None) -> str:
    """Downloads a set and prepares it under `root`, showing how far it is; what is there already is left alone.

    What was downloaded whole before is not downloaded again.

    Args:
      dataset: the TFDS name.
      root: where TFDS keeps its sets.
      manual_dir: where files lie that TFDS may not download itself.

    Returns:
      What was done, in a line.

    Raises:
      InputError: the set is unknown, or something is missing: a network, files, a package.
    """
    tfds, builder = tensorflow_datasets(), builder_of(dataset, root)
    if builder.is_prepared():
        return f"{dataset}: is there already, {builder.data_dir}"
    host = urllib.parse.urlsplit(builder.info.homepage).hostname
    if host and not urllib.request.getproxies():
        try:
            socket.getaddrinfo(host, 443)
        except Exception:  # without this, TFDS tries for minutes
            raise InputError(
                f"{dataset}: there is no network here, {host} has no address. Prepare it where there is one, and copy "
                f"{root / dataset} over."
            ) from None
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir and str(manual_dir))
        )
    except Exception as error:  # of the network, the disk, a package that this set wants, files that are not there
        raise InputError(
            f"{dataset}: not prepared, {reason(error)[:400]}. The same command goes on from here."
        ) from None
    return f"{dataset}: prepared in {builder.data_dir}"
