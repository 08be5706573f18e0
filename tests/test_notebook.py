"""The notebook of the documentation: its cells run in order, and what they showed is committed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # plays whole runs

PATH = Path(__file__).parents[1] / "docs" / "examples" / "notebook.ipynb"
NOTEBOOK = json.loads(PATH.read_text(encoding="utf-8"))
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
SHOWN = [output for cell in CELLS for output in cell["outputs"]]
#: Runs the texts that it reads in the namespace of its main module, and tells what is left there.
RUNNER = """
import json, sys, types
cells = json.load(sys.stdin)
main = sys.modules["__main__"] = types.ModuleType("__main__")
for number, cell in enumerate(cells, 1):
    exec(compile(cell, f"cell {number}", "exec"), vars(main))
print(json.dumps([main.run.strategies, len(main.run.costs), list(main.summary["strategy"])]))
"""
LARGEST_BYTES = 100_000


def test_the_cells_run_in_order_as_they_stand(tmp_path: Path) -> None:
    cells = ["".join(cell["source"]) for cell in CELLS]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(cells),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    names, num_costs, in_summary = json.loads(done.stdout.splitlines()[-1])
    assert names == ["static", "duet", "nudge"] and set(in_summary) == set(names)
    num_arms = 3 + 2 * 2  # DUET and the nudge have two controls each
    assert num_costs == num_arms * 24 * 4
    assert not list(tmp_path.iterdir())  # nothing is written


def test_the_outputs_are_there_small_and_of_no_ones_computer() -> None:
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    kinds = {kind for output in SHOWN for kind in output.get("data", {"text": ""})}
    assert {"text/html", "image/png", "text"} <= kinds
    texts = json.dumps([output.get("text", output.get("data")) for output in SHOWN])
    assert "nudge" in texts and "tabular" in texts and "nudge" in json.dumps(NOTEBOOK["cells"])
    assert PATH.stat().st_size < LARGEST_BYTES
    assert not re.search(r"(?:/home/|/tmp/|/Users/|[A-Z]:\\\\)", texts)
    assert not [output for output in SHOWN if output["output_type"] == "error"]
