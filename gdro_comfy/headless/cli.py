"""The command line: run a workflow file, or the demo, without ComfyUI."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..distributed import OtherProcessFailed, World, join, within, world
from ..errors import InputError
from ..progress import Cancelled
from .console_host import ConsoleHost
from .several import SharedHost, check_asked


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--output", type=Path, default=Path("output"), metavar="DIR",
        help="folder for runs, pictures and LoRAs (default: output)",
    )  # fmt: skip
    common.add_argument(
        "--input", type=Path, metavar="DIR",
        help="folder with pictures to import (default: that of the ComfyUI in COMFYUI_PATH, or input)",
    )  # fmt: skip
    common.add_argument(
        "--set", action="append", default=[], metavar="NODE.INPUT=VALUE", dest="settings",
        help="change an input; NODE is an id, a title or a type; may be repeated",
    )  # fmt: skip
    common.add_argument("--quiet", action="store_true", help="show no progress bars")
    common.add_argument("--debug", action="store_true", help="show where an error comes from")
    parser = argparse.ArgumentParser(
        prog="gdro-comfy", description="Align SD3, SD3.5 and FLUX.1 to a reward of your own."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", parents=[common], help="run a workflow file")
    run.add_argument("workflow", type=Path, help="a file saved by ComfyUI (UI or API format)")
    run.add_argument(
        "--groups-only", action="store_true",
        help="only sample and score the groups; torchrun or accelerate launch may start several processes "
        "for it (docs/several_gpus.md), and one goes on without this option",
    )  # fmt: skip
    run.add_argument("--check", action="store_true", help="check the file without running it")
    commands.add_parser("demo", parents=[common], help="the quickstart on the bundled tiny model")
    commands.add_parser("nodes", help="list the nodes")
    commands.add_parser("rewards", help="list the rewards of other installed packages")
    prompts = commands.add_parser("prompts", help="write a file of prompts")
    prompts.add_argument(
        "kind", choices=("signs", "things"), help="signs to read, or things to count and place"
    )
    prompts.add_argument("--count", type=int, default=100, help="how many (default: 100)")
    prompts.add_argument(
        "--seed", type=int, default=0, help="another seed gives other prompts (default: 0)"
    )
    prompts.add_argument(
        "--out", type=Path, required=True, help="the .jsonl file to write; must not exist yet"
    )
    verify = commands.add_parser(
        "verify", help="read all files of a run and say what is damaged or gone",
        description="Read every file of a run and compare it with its checksum. Nothing is changed, unless "
        "--set-aside puts damaged files that the next run makes anew out of its way.",
    )  # fmt: skip
    verify.add_argument("name", metavar="RUN", help="name of the run, or of its folder in DIR/gdro")
    verify.add_argument(
        "--set-aside", action="store_true", help="put damaged files out of the way of the next run"
    )
    gc = commands.add_parser(
        "gc", help="list what interrupted writes and deletions left over, with sizes",
        description="List temporary files, halves of deleted runs, and damaged files that were set aside.",
    )  # fmt: skip
    gc.add_argument("--delete", action="store_true", help="delete them")
    for command in (verify, gc):
        command.add_argument(
            "--output", type=Path, default=Path("output"), metavar="DIR",
            help="folder that contains the runs, as for run (default: output)",
        )  # fmt: skip
        command.add_argument(
            "--loras", type=Path, metavar="DIR",
            help="folder that contains gdro/ with the finished LoRAs (default: DIR/loras, as run "
            "writes them; ComfyUI's is models/loras)",
        )  # fmt: skip
    rate = commands.add_parser(
        "rate", help="read ratings of a run's pictures from a CSV file",
        description="Read ratings from a CSV file with the columns file, or image with group or prompt; "
        "and rating (1 to 5) or rank (1 is the best). With --template, write such a file instead.",
    )  # fmt: skip
    rate.add_argument("name", metavar="RUN", help="name of the run, or of its folder in DIR/gdro")
    rate.add_argument("csv", metavar="CSV", type=Path, help="the file with the ratings")
    rate.add_argument("--template", action="store_true", help="write the file, to be filled in")
    rate.add_argument(
        "--output", type=Path, default=Path("output"), metavar="DIR",
        help="folder that contains the run, as for run (default: output)",
    )  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``gdro-comfy``.

    Args:
        arguments: of the command line; None takes those of the process.

    Returns:
        The exit code. 0: success; 1: the demo's reward did not rise, a node failed, or verify found
        damage, or another of several processes ended; 2: an argument or an input cannot be used; 130:
        stopped by the user.
    """
    options = _parser().parse_args(arguments)
    if options.command == "nodes":
        _list_nodes()
        return 0
    if options.command == "rewards":
        _list_rewards()
        return 0
    if options.command == "prompts":
        return _write_prompts(options)
    if options.command == "rate":
        return _rate(options)
    if options.command in ("verify", "gc"):
        from . import upkeep

        return getattr(upkeep, options.command)(options)
    level = logging.DEBUG if options.debug else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger(__name__.partition(".")[0]).setLevel(level)
    groups_only = options.command == "run" and options.groups_only
    try:
        check_asked(options.command, groups_only, options.command == "run" and options.check)
        several = join() if groups_only and not options.check else World()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    if several.size == 1:
        return _run_and_report(
            options, several, ConsoleHost(options.output, options.quiet, options.input)
        )
    if not several.is_main:
        logging.getLogger(__name__.partition(".")[0]).setLevel(logging.WARNING)
    host = SharedHost(several, options.output, options.quiet, options.input)
    # So do launchers stop the other processes if one has ended.
    previous = signal.signal(signal.SIGTERM, lambda *_: host.cancel())
    try:
        with within(several):
            return _run_and_report(options, several, host)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run_and_report(options: argparse.Namespace, several: World, host: ConsoleHost) -> int:
    from . import workflow

    # The first Ctrl-C finishes the current step, so that everything saved is complete; the second
    # stops at once.
    previous = signal.signal(signal.SIGINT, lambda *_: _cancel(host))
    try:
        code = _run(options, host)
        several.leave()
        return code
    except InputError as error:
        first = several.fail(str(error))
        if options.debug:
            raise
        if first:
            print(error, file=sys.stderr)
        return 2
    except (Cancelled, KeyboardInterrupt):
        if several.fail("it was stopped"):
            print("Stopped. Run the same command again to continue.", file=sys.stderr)
        return 130
    except workflow.NodeError as error:
        first = several.fail(str(error))
        if options.debug:
            raise
        if first:
            print(f"{error} (--debug shows where)", file=sys.stderr)
        return 1
    except OtherProcessFailed as error:
        print(f"{error}. Run the same command again to continue.", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, previous)


def _cancel(host: ConsoleHost) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    host.cancel()


def _run(options: argparse.Namespace, host: ConsoleHost) -> int:
    from . import workflow

    if options.command == "demo":
        from . import demo

        return 0 if demo.run(host, options.settings) else 1
    graph = workflow.load(options.workflow)
    for setting in options.settings:
        workflow.override(graph, setting)
    if options.check:
        print(f"{options.workflow}: {len(workflow.check(graph))} nodes, no problems found")
        return 0
    finished = workflow.run(graph, host, groups_only=options.groups_only)
    for node_id, outputs in finished.items() if world().is_main else ():
        texts = [value for value in outputs if isinstance(value, str)]
        if texts:
            print(f"{graph[node_id].label}\n  " + "\n".join(texts).replace("\n", "\n  "))
    return 0


def _write_prompts(options: argparse.Namespace) -> int:
    from . import prompt_generator

    generators = {"signs": prompt_generator.sign_prompts, "things": prompt_generator.thing_prompts}
    try:
        if options.out.suffix != ".jsonl" or options.out.exists():
            raise InputError(
                "--out",
                f"{options.out} exists already, or is not a .jsonl file",
                "Choose another name.",
            )
        prompt_generator.write(options.out, generators[options.kind](options.count, options.seed))
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.count} prompts in {options.out}")
    return 0


def _list_rewards() -> None:
    from ..rewards import installed

    offers = installed.offers()
    for offer in offers:
        print(f"{offer.label} ({offer.version})")
    if not offers:
        print(f"None. Packages offer rewards through the entry point group {installed.GROUP}.")


def _rate(options: argparse.Namespace) -> int:
    from ..data.runs import GROUPS
    from ..viewer import ratings_csv

    try:
        run = ratings_csv.find_run(options.output, options.name)
        if options.template:
            count = ratings_csv.write_template(run, options.csv)
            print(f"{count} pictures to rate in {options.csv}; they are in {run / GROUPS}")
            return 0
        rated = ratings_csv.read_into(run, options.csv)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{run.name}: {ratings_csv.summary(rated)}")
    return 0


def _list_nodes() -> None:
    from ..stages import STAGES

    for node_id, stage in STAGES.items():
        print(f"{node_id:26}{stage.description}")
