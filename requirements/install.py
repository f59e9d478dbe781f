"""Installs jaxrec into the Python that runs this: by the lock of its platform, each file under its hash, if it can.

    python requirements/install.py             what make does in a new environment
    python requirements/install.py --locked    the lock or nothing
    python requirements/install.py --lock      writes the lock of this platform, of what the index offers today

Where there is no lock for a platform, or the index does not have a file of it, the newest versions that pyproject.toml
allows are installed, and a line says so. A file that is there and is another than the lock's is never installed.
"""

import argparse
import json
import pathlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
BUILD = ("setuptools", "wheel")  # what packages without a wheel, and jaxrec itself, are built by
OTHER_FILE = "DO NOT MATCH THE HASHES"  # pip's words

Pip = Callable[..., subprocess.CompletedProcess]


def lock_file() -> pathlib.Path:
    """The lock of this platform and Python, which may not be there."""
    return HERE / f"{sys.platform}-{platform.machine()}-py{sys.version_info.major}.{sys.version_info.minor}.txt"


def main(words: Sequence[str], pip: Pip) -> int:
    """Does what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--locked", action="store_true")
    parser.add_argument("--lock", action="store_true")
    options, lock = parser.parse_args(words), lock_file()
    if options.lock:
        return write(lock, pip)
    trouble = by_lock(lock, pip) if lock.exists() else "there is none for this platform and Python."
    if not trouble:
        return 0
    print(f"{lock}: {trouble}", file=sys.stderr)
    if options.locked or OTHER_FILE in trouble:
        return 1
    print("The newest versions are installed, under no hash; LOCKED=1 would refuse.", file=sys.stderr)
    for what in (["--upgrade", "pip"], ["--editable", str(ROOT)]):
        if code := pip("install", *what).returncode:
            return code
    return 0


def by_lock(lock: pathlib.Path, pip: Pip) -> str:
    """Installs what a lock holds, and jaxrec beside it; nothing is fetched that it does not name.

    Returns:
      What pip says where it fails, or "".
    """
    lines = lock.read_text().splitlines()
    exact, as_it_is = ("--require-hashes", "--no-deps"), ("--no-deps", "--no-build-isolation")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as build:
        build.write("\n".join(line for line in lines if line.startswith(tuple(f"{name}==" for name in BUILD))))
        build.flush()
        for what in (
            (*exact, "--requirement", build.name),
            (*exact, "--no-build-isolation", "--requirement", str(lock)),
            (*as_it_is, "--editable", str(ROOT)),
        ):
            found = pip("install", *what, stderr=subprocess.PIPE)
            if found.returncode:
                return found.stderr.strip() or "pip fails."
    return ""


def write(lock: pathlib.Path, pip: Pip) -> int:
    """Asks pip what it would install, and writes it down with a hash of each file; no word of where it comes from."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        asked = pip("install", "--dry-run", "--ignore-installed", "--report", str(report), str(ROOT), *BUILD)
        if asked.returncode:
            return asked.returncode
        found = json.loads(report.read_text())["install"]
    lines = [
        f"{each['metadata']['name'].lower()}=={each['metadata']['version']} "
        f"--hash=sha256:{each['download_info']['archive_info']['hashes']['sha256']}"
        for each in found
        if each["metadata"]["name"] != "jaxrec"
    ]
    lock.write_text("\n".join(("# By `make lock`.", *sorted(lines))) + "\n")
    return 0


def run_pip(*words: str, **options: object) -> subprocess.CompletedProcess:
    """Runs pip of this Python."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    return subprocess.run(command, text=True, check=False, **options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], run_pip))
