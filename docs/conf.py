"""How `make docs` makes a site of this folder: its pages by MyST, the reference from the docstrings of jaxrec/.

Nothing is fetched. A page of the reference is a room; docs/_templates/ has its form.
"""

import inspect
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext import apidoc

HERE = pathlib.Path(__file__).parent

project = "jaxrec"
html_title = "jaxrec"
html_theme = "furo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_templates"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
default_role = "code"  # what is between single backticks
napoleon_custom_sections = ["Source"]
napoleon_use_ivar = True

SECTIONS = ("Args", "Attributes", "Raises", "Returns", "Source", "Yields")


def as_restructured_text(lines: Sequence[str]) -> Iterator[str]:
    """A docstring of this house, which is nearly Markdown, in the language that autodoc reads.

    Names in a `Returns:` become a list, a block that is indented behind a colon is literal, and what is a sign there
    and markup here (|x|, *words, `Block`s) is escaped.
    """
    literal, listed = None, False  # the column that a literal block ends at; whether names are listed
    for i, line in enumerate(lines):
        column, text = len(line) - len(line.lstrip()), line.strip()
        if literal is not None and (not text or column > literal):
            yield line
            continue
        literal = None
        rest = [each for each in lines[i + 1 : i + 3] if each.strip()]
        deeper = bool(rest) and len(rest[0]) - len(rest[0].lstrip()) > column
        if text.removesuffix(":") in SECTIONS:
            listed = bool(rest) and rest[0].lstrip().startswith("`")
            # Without the line of nothing napoleon would take what is before a colon for the type.
            yield from (line, f"{line[:column]}  \\", *[""] * listed) if text == "Returns:" else (line,)
            continue
        if listed and text.startswith("`"):
            line = f"{line[:column]}* {text}"
        parts = re.split(r"(`[^`]+`)", line)
        parts[::2] = [re.sub(r"(\*(?! )|\||(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
        line = re.sub(r"(`[^`]+`)(?=\w)", r"\1\\ ", "".join(parts))
        if text.endswith(":") and deeper:
            literal = column
            yield from (f"{line}:", "")
        else:
            yield line


def plain(app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Hands each docstring over."""
    lines[:] = as_restructured_text(lines)


def left_out(app: Sphinx, kind: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Whether a member has no place here: a room, which is a page, a field of a NamedTuple, what stands elsewhere.

    Each name stands once, where it is shortest: `jaxrec.fit`, and not in the module that it is from.
    """
    package = app.env.current_document.autodoc_module.rpartition(".")[0]
    while package and kind == "module":
        above = sys.modules[package]
        if name in getattr(above, "__all__", vars(above)) and getattr(above, name) is thing:
            return True
        package = package.rpartition(".")[0]
    counted = (inspect.getdoc(thing) or "").startswith("Alias for field number")
    return True if counted or inspect.ismodule(thing) else None


def setup(app: Sphinx) -> None:
    """Writes the pages of the reference and says what happens to docstrings."""
    options = ["--force", "--remove-old", "--no-toc", f"--templatedir={HERE / '_templates'}"]
    apidoc.main([*options, "-o", str(HERE / "api"), str(HERE.parent / "jaxrec")])
    app.connect("autodoc-process-docstring", plain, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", left_out)
