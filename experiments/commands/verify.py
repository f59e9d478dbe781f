"""Whether the checkpoints of a run are as they were written."""

import pathlib

from jaxrec.engine import manifest
from jaxrec.errors import InputError
from jaxrec.output.workdir import HELD


def verify(*, run: str, seal: bool = False) -> int:
    """Compares every checkpoint of a run to its manifest, and says a line for each. No array is read.

    Args:
      run: its folder; the run may be going on.
      seal: vouch for checkpoints that have no manifest, which older versions saved: they get one of what they hold now.

    Returns:
      The exit code: 1 where some are damaged.

    Raises:
      InputError: there is no such run, or no checkpoint yet.

    Example:
      python launch.py verify --run=runs/digits_cnn
    """
    places = [pathlib.Path(run, place) for place in HELD if pathlib.Path(run, place).is_dir()]
    if not places:
        raise InputError(f"--run = '{run}': no run with checkpoints is there. Name a run's folder.")
    if not any(manifest.steps(place) for place in places):
        raise InputError(f"--run = '{run}': that run has saved no checkpoint yet.")
    damaged = 0
    for place in places:
        for step in manifest.steps(place):
            folder = place / str(step)
            if seal and manifest.is_missing(folder):
                manifest.write(folder, step)
            fault = manifest.fault(folder, step)
            sizes = [] if fault else manifest.sizes(folder).values()
            found = f"DAMAGED, {fault}" if fault else f"ok, {len(sizes)} files, {sum(sizes) / 1e6:,.1f} MB"
            print(f"{place.name}, step {step}: {found}")
            damaged += fault is not None
    print(f"{damaged} damaged" if damaged else "All are as they were written.")
    return 1 if damaged else 0
