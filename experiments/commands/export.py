"""What a run has learned, as programs that need jax alone, for any device and any number of images."""

import pathlib

from experiments.exported import Program, answers, as_onnx, programs_of, serialized
from jaxrec.errors import InputError
from jaxrec.output.workdir import write_json

CLOSE, ONNX_CLOSE = 1e-6, 1e-4  # how far answers may be from the run's
LOADER = '''"""Loads what lies in this folder. It needs jax, {version} or later, and nothing else.

{usage}
"""

import json
import pathlib

import jax
from jax import export

FOLDER = pathlib.Path(__file__).parent
about = json.loads((FOLDER / "model.json").read_text())
{lines}
'''
LINE = '{name} = jax.jit(export.deserialize(bytearray((FOLDER / "{name}.bin").read_bytes())).call)'


def export(*, run: str, out: str = "model", calibrated: bool = False, onnx: bool = False) -> int:
    """Writes a folder that answers without this repository: a .bin for each program, model.json, and load.py.

    A recogniser's predict takes images, uint8 [N, H, W, C] of its own size, and gives probabilities [N, K]; where the
    run has learned from floats outside of [0, 1] it takes these. A generator's and a VAE's generate takes keys [N, 2],
    of `jax.random.key_data`, and labels [N] where there are classes, and gives images in [0, 1]. An autoencoder's
    encode and decode take images, uint8, and codes. Each is for CPU, CUDA and TPU at once, and what it says here is
    compared with what the run says.

    Args:
      run: the folder of a finished run.
      out: a folder that is not there yet, or empty.
      calibrated: probabilities that `launch.py calibrate` has made believable.
      onnx: write each program as .onnx as well.

    Returns:
      The exit code: 1 where a program's answers are further from the run's than rounding takes them.

    Raises:
      InputError: `out` is in use or cannot be written, the run is not finished, is damaged or has diverged, or ONNX
        cannot express the network; nothing is written then.

    Example:
      python launch.py export --run=runs/digits_cnn --out=model
    """
    folder = _empty(out)
    programs, about = programs_of(pathlib.Path(run), "--run", calibrated=calibrated)
    files, found = {}, {}
    for program in programs:
        files[f"{program.name}.bin"] = stored = serialized(program)
        found[program.name] = {**_described(program), "error": program.error(answers(stored, program.example))}
    for program in programs if onnx else ():  # last: the converter changes flax for the rest of the process
        files[f"{program.name}.onnx"], found[program.name]["onnx_error"] = as_onnx(program)
    about["programs"] = found
    files["load.py"] = loader = _loader(about)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    write_json(folder / "model.json", about)
    return _report(folder, about, files, loader)


def _empty(out: str) -> pathlib.Path:
    """The folder to write, which is there and empty."""
    folder = pathlib.Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise InputError(f"--out={out}: cannot be written ({error.strerror}). Name another folder.") from None
    if taken:
        raise InputError(f"--out={out}: that folder is not empty. Name one that is not there yet.")
    return folder


def _described(program: Program) -> dict:
    """What goes in and comes out, for model.json."""
    inputs = {name: {"type": str(each.dtype), "shape": ["N", *each.shape]} for name, each in program.inputs.items()}
    output = {"type": str(program.expected.dtype), "shape": ["N", *program.expected.shape[1:]]}
    return {"inputs": inputs, "output": output}


def _loader(about: dict) -> str:
    """load.py."""
    usage = [
        f"    load.{name}({', '.join(each['inputs'])})  # "
        f"{', '.join(map(_shown, each['inputs'].values()))} -> {_shown(each['output'])}"
        for name, each in about["programs"].items()
    ]
    lines = [LINE.format(name=name) for name in about["programs"]]
    version = about["versions"]["jax"]
    return LOADER.format(version=version, usage="\n".join(["    import load", *usage]), lines="\n".join(lines))


def _shown(array: dict) -> str:
    return f"{array['type']} [{', '.join(map(str, array['shape']))}]"


def _report(folder: pathlib.Path, about: dict, files: dict[str, bytes | str], loader: str) -> int:
    """Says what was written, and returns the exit code."""
    apart = 0
    for name, each in about["programs"].items():
        for end, key, close in ((".bin", "error", CLOSE), (".onnx", "onnx_error", ONNX_CLOSE)):
            if key in each:
                far = each[key] > close
                says = f": MORE THAN {close:g}" * far
                size = len(files[name + end]) / 1e6
                print(f"{folder / (name + end)}: {size:,.2f} MB, {each[key]:.1e} from what the run says{says}")
                apart += far
    print(f"{folder / 'load.py'}, which needs jax alone:\n\n{loader}")
    return 1 if apart else 0
