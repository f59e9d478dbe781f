"""What a command line that is understood leads to: a command, a run, several runs, or several processes of one."""

import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import processes
from experiments.settings.command_line import OF_RUNS, WITHOUT_JAX, call, takes
from experiments.settings.space import space_of
from jaxrec.errors import InputError


def start(
    argv: Sequence[str],
    config: Mapping[str, Any],
    workdir: pathlib.Path | None,
    options: Any,
    command: str,
    own: Mapping[str, Any],
) -> int:
    """Starts JAX, unless other processes are to do it, carries a command or a config out, and returns the exit code.

    Args:
      argv: the whole command line.
      config: checked and complete, or {}.
      workdir: the folder of a run or a command.
      options: the launcher's flags.
      command: its name, or "".
      own: the command's own arguments.

    Raises:
      InputError: flags that do not go together; and what a command or a run raises.
    """
    _check_together(options, command)
    processes.check_flags(options)
    if processes.is_parent(options):
        return processes.supervise(argv, options, workdir)
    if command in WITHOUT_JAX:
        return call(command, config, workdir, own)
    if "space" in own:
        own = {**own, "space": space_of(own["space"], config)}
    from experiments.commands.repeat import repeat  # imports JAX, which a parent has no need of
    from experiments.commands.run import run
    from jaxrec.machine import startup

    processes.join(options)
    startup.select_platform(options.platform)
    print(*filter(None, (startup.device_line(), startup.use_compile_cache())), sep="\n", flush=True)
    if command:
        return call(command, config, workdir, own)
    if options.seeds:
        return repeat(config, workdir, seeds=options.seeds, fresh=options.fresh)
    if not options.smoke:
        return run(config, workdir, fresh=options.fresh)
    config = {**config, "train": {**config["train"], "log_every": 1, "eval_every": 1}}
    with tempfile.TemporaryDirectory() as folder:
        for steps in (1, 2):  # without the measurements of a finished run, which may take as long as they do in full
            run(config, pathlib.Path(folder, "run"), until=steps, finish=False)
    print("The smoke test went through train, eval, save and restore; its folder is gone.")
    return 0


def _check_together(options: Any, command: str) -> None:
    """Raises InputError for flags that do not go together, or not with a command."""
    given = [name for name in OF_RUNS if options[name].value and not (command and takes(command, name))]
    given = [f"--{name}" for name in given if command or name != "workdir"]
    ways = [options.seeds, options.smoke, options.processes or options.cluster or options.restarts]
    if (given and command) or sum(map(bool, ways)) > 1:
        raise InputError(f"{' and '.join([*given, *[command] * bool(command)])} do not go together. Leave one out.")
