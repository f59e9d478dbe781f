"""What a shell needs to complete the words of a command line."""

import pathlib
import re
from typing import Literal

from experiments.settings.completion import completions

# bash takes what stands behind = for a word of its own, so `before` is taken off; zsh (by bashcompinit) does not.
SCRIPT = """\
_jaxrec() {
  local line=${COMP_LINE:0:$COMP_POINT} piece=${COMP_WORDS[COMP_CWORD]} launch=${COMP_WORDS[0]} candidate
  local python=()
  [[ $launch == *launch.py ]] || { python=("${launch/#\\~/$HOME}"); launch=${COMP_WORDS[1]}; }
  COMPREPLY=()
  [[ $launch == *launch.py && -f $launch ]] || return
  local word=${line##* }
  [[ $piece == "=" ]] && piece=
  local before=${word%"$piece"}
  while IFS= read -r candidate; do
    COMPREPLY+=("${candidate#"$before"}")
  done < <("${python[@]}" "$launch" completion --line="$line" 2>/dev/null)
}
"""
ENDS = {
    "bash": "complete -o default -o nospace -F _jaxrec python python3 launch.py\n",
    "zsh": "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"
    "complete -o default -o nospace -F _jaxrec python python3 launch.py\n",
}


def completion(*, shell: Literal["bash", "zsh"] = "bash", line: str | None = None) -> int:
    """Prints a script that teaches a shell to complete `python launch.py ...`; how to load it, docs/use.md says.

    Args:
      shell: which one.
      line: the command line up to the cursor: prints what its last word may become, a line for each. The script asks
        so.

    Returns:
      The exit code.

    Example:
      python launch.py completion --shell=zsh
    """
    if line is None:
        print((SCRIPT + ENDS[shell]).strip())
        return 0
    words = re.split(r"\s+", line)
    launcher = next((place for place, word in enumerate(words) if pathlib.PurePath(word).name == "launch.py"), -1)
    print(*completions(words[launcher + 1 : -1], words[-1]), sep="\n")
    return 0
