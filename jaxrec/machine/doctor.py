"""Looks a machine over: what is installed, what JAX finds, what is missing and how to mend it."""

import importlib.metadata
import platform
import sys
from collections.abc import Iterator

from packaging.requirements import Requirement

from jaxrec.errors import InputError
from jaxrec.machine.folders import cache_folder, data_folder


def report() -> tuple[str, list[str]]:
    """Returns (what is there, the troubles found, each with its remedy)."""
    lines = [f"python      {platform.python_version()} at {sys.executable}", f"system      {platform.platform()}"]
    troubles = []
    for requirement, installed, trouble in _requirements():
        lines.append(f"{requirement.name:<24}{installed or 'missing'}")
        troubles += [trouble] if trouble else []
    troubles += list(_jax_troubles())
    try:
        from jaxrec.machine import startup  # needs jax, which may be what is missing

        lines.append(f"devices     {startup.device_line().splitlines()[0]}")
        if startup.gpu_card() and startup.on_cpu():
            troubles.append("There is a GPU and JAX does not see it. Install its plugin: pip install -e '.[cuda]'.")
        lines.append(f"cache       {cache_folder()}")
        troubles += [warning] if (warning := startup.use_compile_cache()) else []
    except InputError as error:
        troubles.append(str(error))
    except Exception as error:  # a broken plugin may throw anything
        troubles.append(f"JAX does not start ({' '.join(str(error).split())[:200]}). pip install --upgrade jax jaxlib")
    prepared = sorted({file.parent.parent.name for file in data_folder().glob("*/*/dataset_info.json")})
    lines.append(f"data sets   {', '.join(prepared) or 'none'} in {data_folder()}")
    return "\n".join(lines), troubles


def _requirements() -> Iterator[tuple[Requirement, str | None, str | None]]:
    """(what jaxrec requires, the version installed, what is wrong with it) for each requirement that holds here."""
    try:
        required = importlib.metadata.requires("jaxrec") or []
    except importlib.metadata.PackageNotFoundError:
        yield Requirement("jaxrec"), None, "jaxrec is not installed in this Python. pip install -e . in its checkout."
        return
    for text in required:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield requirement, None, f"{requirement.name} is missing. pip install '{_plain(requirement)}'"
            continue
        fits = requirement.specifier.contains(installed, prereleases=True)
        wrong = f"{requirement.name} {installed} does not fit. pip install --upgrade '{_plain(requirement)}'"
        yield requirement, installed, None if fits else wrong


def _jax_troubles() -> Iterator[str]:
    """jax and jaxlib, and a plugin where there is one, come in matching versions."""
    versions = {}
    for package in ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    release = {package: version.split(".")[:3] for package, version in versions.items()}
    for package in release:
        if release[package] != release.get("jax"):
            yield (
                f"{package} {versions[package]} does not match jax {versions.get('jax')}. "
                "pip install --upgrade jax jaxlib, with the extra of your accelerator."
            )


def _plain(requirement: Requirement) -> str:
    return f"{requirement.name}{requirement.specifier}"
