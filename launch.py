"""The one entry point: trains what a config asks for, looks at data, asks runs for answers and images, or the machine.

    python launch.py --config=FILE [--config.KEY=VALUE ...] [options]
    python launch.py prepare NAMES...               TFDS sets from the network, before a run needs them
    python launch.py show_data --config=FILE ...    a picture of training images, stored and augmented
    python launch.py bench_data --config=FILE ...   how fast its data come, stage by stage
    python launch.py lr_find --config=FILE ...      a picture of the loss over a growing learning rate
    python launch.py predict --run=RUN IMAGES... [--out=predictions.csv --top=1 --uncertainty]    a CSV of answers
    python launch.py evaluate --run=RUN [--split=test --data=SET --corrupt=gaussian_noise,...]    its metrics elsewhere
    python launch.py calibrate --run=RUN            probabilities that can be believed, and a picture of them
    python launch.py explain --run=RUN [IMAGES... --split=test --pick=wrong]        by what it answers, as pictures
    python launch.py mistakes --run=RUN [--split=test --count=24]    worst losses, confused pairs, likely label errors
    python launch.py export --run=RUN [--out=model --calibrated --onnx]    programs that need jax alone; docs/export.md
    python launch.py compare RUN RUN... [--split=test --out=compare]    can the data tell them apart?
    python launch.py report RUN... [--out=report.html --mistakes=8]    one page about them for a browser; docs/report.md
    python launch.py runs [FOLDER...]               runs, their state, step, best metric, age and size
    python launch.py sweep --config=FILE --space.KEY="log 1e-4 1e-1" [--trials=20 --method=grid|random|tpe|gp
                           --pruner=none|asha|hyperband --seeds=N --top=k]    searches configs, by validation alone
    python launch.py cross_validate --config=FILE [--folds=5]    each example held out once: means, confusion, answers
    python launch.py verify --run=RUN [--seal]      whether its checkpoints are as they were written
    python launch.py replay --run=RUN --step=S      one step again: where it ceases to be finite
    python launch.py sample --workdir=RUN [--images=64 --seed=0 --classes=0,1,2]    images that a run makes
    python launch.py distance --generated=FILE [--real=FILE] [--features=RUN]       how far they are from real ones
    python launch.py completion [--shell=zsh]       a script by which a shell completes all of this
    python launch.py doctor

FILE is a Python file with get_config(), such as configs/digits_cnn.py, or the config.json of a run. Any argument of
anything the config names can be set: --config.optimizer.learning_rate=3e-4. The same command on the same workdir goes
on where the run stopped. show_data and lr_find leave runs alone: they write <command>.png. What a command's own flags
mean, and what they are by default: python launch.py <command> --help

Options:
    --workdir=FOLDER   the run's folder; runs/<name of the config> by default, runs/<command>/<name> for a command
    --seeds=N          N runs, under seeds from the config's on, in folders of their own; mean and deviation at the end
    --allow=PACKAGE    a run's config.json may name, and so run, what lies in this package outside the repository; a .py
                       config and --config.KEY=VALUE may in any case. It lies in the current folder or on PYTHONPATH
    --platform=NAME    cpu, gpu or tpu; the best there is by default
    --fresh            move an old run in the workdir aside first; nothing is deleted
    --smoke            2 steps through every phase (train, eval, save, restore), in a folder thrown away
    --quiet            print warnings and errors alone; what is written is the same
    --debug            show the Python traceback of an error
    --processes=N      N processes on this machine that are one run, and end together; docs/clusters.md has other ways:
    --cluster          one of the processes that SLURM, Open MPI, Kubernetes or a TPU pod has started
    --coordinator=HOST:PORT --process_id=K    one of N --processes, which meet at process 0's address
    --restarts=K       start anew after a failure, K times in a row at most that bring no new checkpoint
    --hang_seconds=S   end with code 77 where nothing goes on for so long; 600 with several processes, 0: never
    --join_seconds=S   how long processes wait for each other at the start; 300

Exit codes: 0 done, 1 trouble found or an error of ours, 2 bad input, 75 terminated or 130 interrupted, with what was
learned saved, 76 training diverged, 77 hangs.
"""

import os
import pathlib
import sys
import traceback
import warnings
from contextlib import redirect_stdout

from experiments.settings.help import help_of
from jaxrec.machine import exits, signals, terminal


def main(argv: list[str]) -> int:
    """Runs one command line and returns the exit code."""
    words = [word for word in argv if word not in ("-h", "--help", "help")]
    if not argv or words != argv:
        print(help_of(words) or __doc__)
        return 0
    if "doctor" in argv:
        return doctor()
    from absl import flags  # not before: the doctor looks after machines on which this fails

    from experiments.settings import command_line
    from experiments.settings.flags import allowing, from_flags
    from experiments.start import start

    warnings.formatwarning = lambda text, *_: f"WARNING: {text}\n"  # where it was raised, a user need not know
    command = next((word for word in argv if word in command_line.COMMANDS), "")
    try:
        command_line.check_not_empty(argv)
        command_line.check_first(argv[0])
        options = command_line.flags_of(command)
        configured = not command or command_line.takes(command, "config")
        rest = options(["launch.py", *argv], known_only=True)[1:]
        with allowing(package for packages in options.allow for package in packages.split(",")):
            config, name, left = from_flags(rest) if configured else ({}, "", rest)
            words = options(["launch.py", *left])[1:]
            known = [command] * bool(command)
            if words[:1] != known or (words[1:] and not command_line.takes_words(command)):
                raise command_line.not_understood(command, words)
            own = command_line.read_flags(command, options, words[1:]) if command else {}
            folder = options.workdir or ("/".join(("runs", *known, name)) if configured else None)
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere if options.quiet else sys.stdout):
                return start(argv, config, folder and pathlib.Path(folder), options, command, own)
    except Exception as error:
        known = (exits.BAD_INPUT, str(error)) if isinstance(error, flags.Error) else exits.told(error)
        if not known:
            raise
        if "--debug" in argv:
            traceback.print_exception(error)
        print(f"launch.py: {known[1]}", file=sys.stderr)
        exits.give_turn(error)
        return known[0]


def doctor() -> int:
    """Prints what is installed and found, and what is wrong with it."""
    from jaxrec.machine.doctor import report

    text, troubles = report()
    print(text, *(f"TROUBLE: {trouble}" for trouble in troubles), sep="\n")
    return 1 if troubles else 0


if __name__ == "__main__":
    signals.install()
    sys.stdout, sys.stderr = terminal.Lasting(sys.stdout), terminal.Lasting(sys.stderr)
    exits.end(lambda: main(sys.argv[1:]))
