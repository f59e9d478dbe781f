"""Runs a config as a user sees it on a terminal, and draws what it leaves there as an SVG, the README's first picture.

    python benchmarks/recording.py [--config=configs/digits_cnn.py --columns=96 --out=docs/terminal.svg]

A pseudo-terminal stands in for the user's, so nothing is shown that a run does not write; the home folder becomes ~.
"""

import argparse
import fcntl
import io
import os
import pathlib
import pty
import re
import struct
import sys
import tempfile
import termios

from rich.console import Console
from rich.text import Text

ROOT = pathlib.Path(__file__).parents[1]


def record(command: list[str], columns: int) -> str:
    """What a command writes to a terminal of so many columns, control codes and all."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execvpe(command[0], command, {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    found = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # on Linux the end of it
            break
        if not part:
            break
        found += part
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(found.decode())
    return found.decode()


def screen(written: str) -> list[str]:
    """The lines that are left when everything was drawn: rich redraws its last ones by moving up and clearing them."""
    lines, row = [""], 0
    for part in re.split(r"(\x1b\[\d*[AK]|\x1b\[\?25[lh]|\r|\n)", written):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part.endswith("A") and part.startswith("\x1b["):
            row = max(0, row - int(part[2:-1] or 1))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part and part != "\r" and not part.startswith("\x1b[?"):
            lines[row] += part
    return lines


def draw(lines: list[str], columns: int, title: str) -> str:
    """An SVG of coloured lines. It names no font that would have to be fetched."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True, highlight=False)
    for line in lines:
        console.print(Text.from_ansi(line))
    text = re.sub(r"\s*@font-face \{.*?\}", "", console.export_svg(title=title), flags=re.S)
    return re.sub(r'viewBox="0 0 (\S+) (\S+)"', r'width="\1" height="\2" \g<0>', text, count=1)  # as large as it is


def main() -> None:
    """Runs it in a folder that is thrown away."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/digits_cnn.py")
    parser.add_argument("--columns", type=int, default=96)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "terminal.svg")
    options = parser.parse_args()
    name = pathlib.Path(options.config).stem
    with tempfile.TemporaryDirectory() as folder:
        command = ["launch.py", f"--config={options.config}", f"--workdir={folder}/runs/{name}"]
        written = record([sys.executable, *command], options.columns)
    written = written.replace(f"{folder}/", "").replace(str(pathlib.Path.home()), "~")
    options.out.write_text(draw(screen(written), options.columns, f"python launch.py --config={options.config}"))


if __name__ == "__main__":
    main()
