"""Runs the command ``cdc-flower``: plays comparisons, writes reports, lists and explains names."""

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.signals import Stopped, stopping
from cdc_flower.core.version import __version__

#: Exit codes.
DIFFERS = 1
MISTAKE = 2
RUN = "run"
HYDRA_ARGUMENTS = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],  # Hydra's own --help shows the configuration
}


class Interrupted(Exception):
    """Carries the signal that ended a command past Typer, which would exit with 130 for any."""

    def __init__(self, stopped: Stopped) -> None:
        super().__init__(stopped)
        self.stopped = stopped


class RunByDefault(TyperGroup):
    """Commands of which ``run`` may be left out."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command.

        Raises:
            Interrupted: If a signal ends it.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted(error if isinstance(error, Stopped) else Stopped()) from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts ``run`` in front of arguments that name no command."""
        first = args[0] if args else ""
        own = first in ("--help", "-h", "--version")
        if not own and (not first or first[0] in "-+~" or "=" in first):
            args = [RUN, *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command, or refuses with the nearest name."""
        if args[0] not in self.commands:
            raise unknown_name("command", args[0], self.commands, "command line")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=RunByDefault,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin", metavar="MODULE", help="A module of your own to import first; may be repeated."
    ),
]
RunFolders = Annotated[
    list[str], typer.Argument(metavar="FOLDER...", help="Run folders.", show_default=False)
]


def main() -> None:
    """Runs the command line. Exits with 2 after a mistake in the input, 128 + n after signal n."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    try:
        with stopping():
            code = app(prog_name="cdc-flower", standalone_mode=False)
    except UserError as error:
        code = _mistake(str(error))
    except click.ClickException as error:
        code = _mistake(error.format_message().rstrip("."))
    except Interrupted as error:
        code = _stopped(error.stopped)
    except (KeyboardInterrupt, click.Abort):
        code = _stopped(Stopped())
    sys.exit(code or 0)


def _stopped(error: Stopped) -> int:
    """Prints in one line that a signal ended the command, and how to go on if there is a folder."""
    words = "interrupted"
    if error.folder is not None:
        path = shlex.quote(str(error.folder))
        words += f"; what was finished is in {path}, and cdc-flower resume {path} goes on"
    with suppress(OSError):  # the terminal may be gone
        print(words, file=sys.stderr, flush=True)
    return error.exit_code


def _mistake(text: str) -> int:
    """Prints a mistake in one line."""
    with suppress(OSError):  # the terminal may be gone, or a file that it goes to be full
        print(f"cdc-flower: {text}", file=sys.stderr, flush=True)
    return MISTAKE


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"cdc-flower {__version__}")
        raise typer.Exit


@app.callback(
    epilog="[b]cdc-flower KEY=VALUE...[/b] is [b]cdc-flower run KEY=VALUE...[/b]: "
    "cdc-flower network=nb_iot 'strategies=\\[static,duet]' seed=1"
)
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Adapt thousands of device models from the cloud, and compare how."""


@app.command(RUN, context_settings=HYDRA_ARGUMENTS)
def run_(context: typer.Context) -> None:
    """Play a comparison (the default command).

    Changes of the configuration follow as KEY=VALUE; [b]-m seed=0,1,2[/b] plays several runs,
    [b]--config-dir DIR[/b] adds files of your own, [b]--cfg job[/b] shows the configuration
    without playing it, and [b]run --help[/b] lists groups and keys.
    """
    from cdc_flower.study.command import run_command

    run_command(context.args)


@app.command()
def resume(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="The run folder.", show_default=False)
    ],
) -> None:
    """Go on with an interrupted run, to the same table as if it had not been.

    What is finished is not played again. [b]cdc-flower KEY=VALUE... out=FOLDER resume=true[/b] is
    the same, and begins where there is no run yet.
    """
    from cdc_flower.study.resume import config_in
    from cdc_flower.study.run import run

    run({**config_in(Path(folder)), "out": folder, "resume": True}, ahead=True)


@app.command()
def report(
    folders: RunFolders,
    baseline: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The strategy to compare with; may be given again."),
    ] = None,
    primary: Annotated[
        str,
        typer.Option(metavar="NAME", help="The strategy whose gain was named beforehand."),
    ] = "",
    segments: Annotated[
        list[str] | None,
        typer.Option(
            metavar="START:STOP", help="A table of these segments alone; may be given again."
        ),
    ] = None,
) -> None:
    """Write the report and the summaries again, of one run or of several side by side.

    They are written into the folder, or beside the first of several folders; what is no run folder
    there, such as they themselves, is passed over with a word. summary.csv and summary.md pool
    seeds, per_seed.csv does not; a second --baseline NAME is written to against_NAME.csv, and
    --segments 2:8 to segments_2_8.csv.
    """
    from cdc_flower.core.progress import table_console
    from cdc_flower.report import report_from_folders
    from cdc_flower.report.comparison.files import span_of, write_tables
    from cdc_flower.report.folders import silent_differences
    from cdc_flower.tables.summary import rich_table

    first, *others = baseline or ["static"]
    spans = [span_of(text) for text in segments or []]
    path, comparison = report_from_folders(runs_among(folders), baseline=first, primary=primary)
    for note in silent_differences(comparison.runs):
        print(f"cdc-flower: pooled although the runs differ in {note}", file=sys.stderr)
    write_tables(comparison, path.parent, others, spans)
    table_console().print(rich_table(comparison.summary))
    print(path)


def runs_among(paths: list[str]) -> list[Path]:
    """Selects the run folders among paths, and prints which others are passed over."""
    from cdc_flower.report.folders import run_folders

    runs, others = run_folders(paths)
    if others:
        names = ", ".join(path.name for path in others)
        print(f"cdc-flower: not run folders, passed over: {names}", file=sys.stderr)
    return runs


@app.command()
def verify(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A run folder.")],
    segments: Annotated[
        int, typer.Option(metavar="N", help="How many segments, from the first on.")
    ] = 2,
    strategies: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Which strategies; two are drawn by default."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Of the draw.")] = 0,
    cached: Annotated[
        bool, typer.Option("--cached", help="Take trained parameters from the run's cache.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Exit with 1 unless all is equal to the bit.")
    ] = False,
) -> None:
    """Play a sample of a run again and compare every row and column with its table.

    Exits with 1 if a number differs by more than numbers of two kinds of CPU do.
    """
    from cdc_flower.study.verify import Sample, told_differences, verdicts

    names = None if strategies is None else [name.strip() for name in strategies.split(",")]
    sample = Sample(segments, names, seed=seed, cached=cached)
    for line in told_differences(folder):
        print(f"provenance: {line}")
    is_good = True
    for verdict in verdicts(folder, sample):
        print(verdict, flush=True)
        is_good &= verdict.is_exact if exact else verdict.is_within
    if not is_good:
        raise typer.Exit(DIFFERS)


@app.command()
def stress(
    folders: RunFolders,
    out: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where to write; beside the first folder by default."),
    ] = None,
    metric: Annotated[str, typer.Option(metavar="NAME", help="What to compare.")] = "ndcg@10",
) -> None:
    """Write table, page and summary of a study of thin links.

    The runs are of one task and one set of data, on several networks.
    """
    for text in folders:
        if text.startswith(("out=", "metric=")):
            key, _, value = text.partition("=")
            raise UserError(f"{text} is an option of this command; write --{key} {value}")
    from cdc_flower.report.study.page import WORDS, write_stress

    found = runs_among(folders)
    page = write_stress(found, out or str(found[0].parent), metric)
    print((page.parent / WORDS).read_text(encoding="utf-8"))
    print(page)


@app.command("list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help="Such as strategies; without it, all kinds."),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """List what there is: strategies, models, tasks, data, networks, policies, codecs, ..."""
    from cdc_flower.core.progress import table_console
    from cdc_flower.study.catalog_page import kinds_table, names_table
    from cdc_flower.study.plugins import import_plugins

    import_plugins(plugin or ())
    table_console().print(kinds_table() if kind is None else names_table(kind))


@app.command()
def describe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as persona, or network/lte.")],
    plugin: Plugins = None,
) -> None:
    """Explain one name: its options with default and meaning, its commands, its paper."""
    from cdc_flower.core.progress import table_console
    from cdc_flower.study.catalog_page import pages
    from cdc_flower.study.plugins import import_plugins

    import_plugins(plugin or ())
    for page in pages(name):
        table_console().print(page)
