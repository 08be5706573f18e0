"""The command ``cdc-flower``: Hydra's configuration in, a run folder out; or ``cdc-flower report|stress FOLDER...``."""

import argparse
import hashlib
import os
import re
import shlex
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from rich.console import Console

from cdc_flower.core.errors import UserError

INTERRUPTED = 130
#: Characters of a folder's name that are made of overrides.
LONGEST_FOLDER = 100


def main() -> None:
    """Entrance of the console script. Exits with 2 after a mistake in the input, and 130 after an interrupt."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    try:
        if sys.argv[1:2] == ["report"]:
            report(sys.argv[2:])
        elif sys.argv[1:2] == ["stress"]:
            stress(sys.argv[2:])
        else:
            _hydra_main()
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; what was finished is in the run folder")
        sys.exit(INTERRUPTED)


def _fail(text: str) -> None:
    print(f"cdc-flower: {text}", file=sys.stderr)
    sys.exit(2)


@hydra.main(version_base="1.3", config_path="pkg://cdc_flower.configs", config_name="config")
def _hydra_main(config: DictConfig) -> None:
    from cdc_flower.study.companions import companions
    from cdc_flower.study.folder import default_folder
    from cdc_flower.study.run import run
    from cdc_flower.study.setup import resolved

    job = HydraConfig.get()
    try:
        values = resolved(config, list(job.overrides.task))
        values["also"] = companions(list(job.overrides.task))
        if job.mode is not None and job.mode.name == "MULTIRUN":
            name = folder_name(list(job.overrides.task), sys.argv[1:]) or str(job.job.num)
            values["out"] = str(
                Path(values["out"]) / name if values["out"] else default_folder(name)
            )
        shown = [
            text for text in job.overrides.task if not text.startswith("out=")
        ]  # a folder holds one run
        run({**values, "command": shlex.join(["cdc-flower", *shown])})
    except UserError as error:
        _fail(str(error))


def folder_name(overrides: list[str], arguments: list[str]) -> str:
    """A folder's name for one run of several: what differs between them.

    What a name cannot hold, such as the minus of ``-1`` or whatever is past its length, is there as
    a hash: two runs never share a folder because of it.

    Args:
        overrides: Of this run.
        arguments: Of the command line, in which a swept key has several values.
    """
    given = [text for text in arguments if "=" in text and not text.startswith("-")]
    parsed = OverridesParser.create().parse_overrides(given)
    swept = {override.get_key_element() for override in parsed if override.is_sweep_override()}
    text = "_".join(text for text in overrides if text.partition("=")[0] in swept)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")
    if len(name) <= LONGEST_FOLDER and re.fullmatch(r"[A-Za-z0-9.,=_\[\]]*", text):
        return name
    return f"{name[:LONGEST_FOLDER]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def report(arguments: list[str]) -> None:
    """``cdc-flower report FOLDER...``: the report and the summary again, of one run or of several side by side.

    They are written into the folder, or beside the first of several folders; what is no run folder
    there, such as they themselves, is passed over with a word. ``--baseline NAME`` compares with
    another strategy than ``static``.

    Raises:
        UserError: If a folder is not a run folder, or no run has the baseline.
    """
    from cdc_flower.core.progress import table_console
    from cdc_flower.report import report_from_folders
    from cdc_flower.report.folders import silent_differences
    from cdc_flower.study.folder import SUMMARY
    from cdc_flower.tables.summary import BASELINE, rich_table, write_summary

    parser = argparse.ArgumentParser(
        "cdc-flower report", description="Write the report of run folders again."
    )
    parser.add_argument("folders", nargs="+", metavar="RUN_FOLDER")
    parser.add_argument(
        "--baseline", default=BASELINE, help=f"the strategy to compare with; {BASELINE} by default"
    )
    parsed = parser.parse_args(arguments)
    path, comparison = report_from_folders(runs_among(parsed.folders), baseline=parsed.baseline)
    for note in silent_differences(comparison.runs):
        print(f"cdc-flower: pooled although the runs differ in {note}", file=sys.stderr)
    write_summary(comparison.summary, path.parent / SUMMARY)
    table_console().print(rich_table(comparison.summary))
    print(path)


def runs_among(paths: list[str]) -> list[Path]:
    """The run folders among these paths; a line says which others are passed over."""
    from cdc_flower.report.folders import run_folders

    runs, others = run_folders(paths)
    if others:
        names = ", ".join(path.name for path in others)
        print(f"cdc-flower: not run folders, passed over: {names}", file=sys.stderr)
    return runs


def stress(folders: list[str]) -> None:
    """``cdc-flower stress FOLDER... [out=FOLDER] [metric=NAME]``: table, page and summary of a study of thin links.

    Raises:
        UserError: If a folder is not a run folder, or the metric is not in the results.
    """
    from cdc_flower.report.study.page import WORDS, write_stress

    given = dict(text.split("=", 1) for text in folders if text.startswith(("out=", "metric=")))
    runs = [text for text in folders if not text.startswith(("out=", "metric="))]
    if not runs or runs[0] in ("-h", "--help"):
        print("usage: cdc-flower stress RUN_FOLDER... [out=FOLDER] [metric=ndcg@10]")
        sys.exit(0 if runs else 2)
    found = runs_among(runs)
    page = write_stress(
        found, given.get("out", str(found[0].parent)), given.get("metric", "ndcg@10")
    )
    print((page.parent / WORDS).read_text(encoding="utf-8"))
    print(page)
