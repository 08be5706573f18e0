"""Runs ``cdc-flower run``: checks arguments in Hydra's grammar, then plays one run or several."""

import argparse
import hashlib
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

import cdc_flower.configs
from cdc_flower.core.errors import UserError
from cdc_flower.study.composing import CONFIGS, ROOT, VERSION_BASE, hydra_at
from cdc_flower.study.keys import check_overrides

#: Most characters of a folder's name that are made of overrides.
LONGEST_FOLDER = 100
#: Characters of a hash behind it: of 10,000 names two are alike in one of five million sweeps.
HASH_LENGTH = 12
_HASHED = re.compile(rf"-[0-9a-f]{{{HASH_LENGTH}}}$")
_PLAIN = re.compile(r"[a-z0-9.]+(_[a-z0-9.]+)*")


def run_command(arguments: Sequence[str]) -> None:
    """Plays the configured run or runs, or shows the answer to one of Hydra's flags.

    Raises:
        UserError: If a key, a choice or a flag is unknown, or a value is wrong.
    """
    given = parsed_arguments(arguments)
    overrides = list(given.overrides)
    if not (given.help or given.hydra_help or given.shell_completion):
        with hydra_at(given.config_dir):
            overrides = check_overrides(
                overrides, given.config_name or ROOT, several=given.multirun
            )
    flags = [text for text in arguments if text not in given.overrides]
    sys.argv[1:] = [*overrides, *flags]  # Hydra reads it, and takes no change after a flag
    cdc_flower.configs.find_methods()
    hydra.main(version_base=VERSION_BASE, config_path=CONFIGS, config_name=ROOT)(_job)()


def parsed_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parses Hydra's flags and overrides, in any order.

    Raises:
        UserError: If a flag is unknown, or has a wrong value.
    """
    parser = get_args_parser()

    def refuse(message: str) -> None:
        raise UserError(f"{message}; cdc-flower run --hydra-help lists the flags")

    parser.error = refuse  # type: ignore[method-assign,assignment]  # its own lists all flags
    given = parser.parse_intermixed_args(list(arguments))
    if given.config_path is not None:
        raise UserError("--config-path cannot be changed; --config-dir DIR adds files of your own")
    if given.config_dir is not None and not Path(given.config_dir).is_dir():
        raise UserError(f"--config-dir must be a folder, got {given.config_dir}")
    modes = {"--cfg": given.cfg, "--info": given.info, "-m": given.multirun, "--run": given.run}
    if len(set_modes := [flag for flag, value in modes.items() if value]) > 1:
        raise UserError(f"{' and '.join(set_modes)} cannot be given together")
    if given.resolve and not (given.cfg or given.help):
        raise UserError("--resolve must stand beside --cfg")
    return given


def _job(config: DictConfig) -> None:
    """Plays one run, as Hydra composed it."""
    from cdc_flower.study.companions import companions
    from cdc_flower.study.run import run
    from cdc_flower.study.setup import resolved

    job = HydraConfig.get()
    try:
        values = resolved(config, list(job.overrides.task), job.job.config_name or ROOT)
        values["also"] = companions(list(job.overrides.task))
        is_one_of_several = job.mode is not None and job.mode.name == "MULTIRUN"
        suffix = ""
        if is_one_of_several:
            suffix = folder_name(list(job.overrides.task), sys.argv[1:]) or str(job.job.num)
            values["out"] = str(Path(values["out"]) / suffix) if values["out"] else None
        # A folder holds one run, so the command that a report shows names none.
        shown = [text for text in job.overrides.task if not text.startswith(("out=", "resume="))]
        values["command"] = shlex.join(["cdc-flower", *shown])
        run(values, suffix=suffix, skip_finished=is_one_of_several, ahead=True)
    except UserError as error:
        # Hydra would print a traceback of anything but this.
        with suppress(OSError):  # what it prints to may be full
            print(f"cdc-flower: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


def folder_name(overrides: Sequence[str], arguments: Sequence[str]) -> str:
    """Names the folder of one run of several by the keys that differ between them.

    A name holds small letters, digits, dots and ``-`` alone, and is not long. Where it does not say
    all, such as the minus of ``-1``, a capital, a list or the end of a path, a hash of the whole
    stands behind it: two runs of a sweep never share a folder.

    Args:
        overrides: Of this run.
        arguments: Of the command line, in which a swept key has several values.
    """
    given = [text for text in arguments if "=" in text and not text.startswith("-")]
    parsed = OverridesParser.create().parse_overrides(given)
    swept = {override.get_key_element() for override in parsed if override.is_sweep_override()}
    differing = [text for text in overrides if text.partition("=")[0] in swept]
    text = "_".join(differing)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")
    if len(name) <= LONGEST_FOLDER and not _HASHED.search(name) and _says_all(differing):
        return name
    digest = hashlib.sha256("\0".join(differing).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name[:LONGEST_FOLDER].strip('-')}-{digest[:HASH_LENGTH]}" if differing else ""


def _says_all(overrides: Sequence[str]) -> bool:
    """Tells whether the words of overrides, one after the other, are those of no other values.

    Each value is plain, and no word of it is one of a key, so that it is seen where it ends.
    """
    keys = {word for text in overrides for word in text.partition("=")[0].split("_")}
    values = [text.partition("=")[2] for text in overrides]
    words = {word for value in values for word in value.split("_")}
    return all(_PLAIN.fullmatch(value) for value in values) and not words & keys
