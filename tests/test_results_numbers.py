"""Every measured number of the pages of results is in a committed table."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
HEADS = "run,strategy,metric,mean,low,high,num_devices,diff,diff_low,diff_high,"
HEADS += "minus_mean,minus_mean_low,minus_mean_high,bytes_up_per_device,num_labels,num_told"
ROWS = """
ml_1m · din,static,ndcg@10,.5479,.5400,.5500,6040,0,0,0,,,,0,0,0
ml_1m · din,static,auc,.9290,.9200,.9300,6040,0,0,0,,,,0,0,0
ml_1m · din,duet,ndcg@10,.5619,.5600,.5700,6040,.01401,.01129,.01677,.0101,.008,.012,3412,0,160
ml_1m · din,duet,auc,.9317,.9300,.9330,6040,-.0027,-.0040,-.0011,.001,-.001,.003,3412,0,160
ml_1m · sasrec,duet,ndcg@10,.5718,.5700,.5800,6040,.0000,-.0010,.0010,0,0,0,3412,0,160
"""
PAGE = """# A page

## A data set ([table](folder/summary.csv))

| strategy | ml-1m DIN NDCG@10 | AUC | against static | KB up | labels | clicks told |
|---|---|---|---|---|---|---|
| static | .5479 | .9290 | | 0 | 0 | 0 |
| duet | **+.0140 [+.0113, +.0168]** | .9317 | −.0027 [−.0040, −.0011] | 3.4 | 0 | 160 |

DUET gains .014 over 6,040 devices, and +.0101 [.0080, .0120] over its control.
AUC is .0027 [.0011, .0040] lower.
"""


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "check_numbers", ROOT / "results" / "check_numbers.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "summary.csv").write_text(HEADS + ROWS, encoding="utf-8")
    return tmp_path


def found(checker: ModuleType, folder: Path, text: str) -> list[str]:
    page = folder / "README.md"
    page.write_text(text, encoding="utf-8")
    return [line.removeprefix(f"{page}:").partition(" is in")[0] for line in checker.missing(page)]


def test_a_right_page_passes(checker: ModuleType, folder: Path) -> None:
    assert found(checker, folder, PAGE) == []


@pytest.mark.parametrize(
    ("right", "wrong", "line", "said"),
    [
        ("| .5479 |", "| .5478 |", 7, ".5478"),
        ("+.0113, +.0168", "+.0114, +.0168", 8, "+.0140 [+.0114, +.0168]"),
        ("| .9317 |", "| .5619 |", 8, ".5619"),  # of another metric
        ("| .9317 |", "| .9290 |", 8, ".9290"),  # of another strategy
        ("−.0027 [−.0040", "+.0027 [−.0040", 8, "+.0027 [−.0040, −.0011]"),
        ("| 3.4 |", "| 3.5 |", 8, "3.5"),
        ("| 160 |", "| 0 |", 8, "0"),
        ("gains .014 over", "gains .024 over", 10, ".024"),
        ("6,040", "6,041", 10, "6,041"),
        ("[.0080, .0120]", "[.0080, .0130]", 10, "+.0101 [.0080, .0130]"),
        ("ml-1m DIN", "ml-1m SASRec", 8, "+.0140 [+.0113, +.0168]"),  # of another run
    ],
)
def test_a_wrong_number_is_found_with_its_line(
    checker: ModuleType, folder: Path, right: str, wrong: str, line: int, said: str
) -> None:
    assert right in PAGE
    lines = found(checker, folder, PAGE.replace(right, wrong))
    assert f"{line}: {said}" in lines


def test_numbers_in_code_in_names_and_the_level_are_left_out(
    checker: ModuleType, folder: Path
) -> None:
    text = "\nOf persona_5 on ml-100k at 95 %: `x = 17.3` and GRU4Rec.\n\n```\n.1234\n```\n"
    assert found(checker, folder, PAGE + text) == []


def test_a_number_of_others_is_listed_or_found(checker: ModuleType, folder: Path) -> None:
    text = "\nThe literature tells .7654 and .8765.\n"
    assert found(checker, folder, PAGE + text) == ["13: .7654", "13: .8765"]
    assert found(checker, folder, f"{PAGE}{text}<!-- given: .7654, .8765; a paper -->\n") == []
    assert found(checker, folder, f"{PAGE}{text}<!-- not in a table: .7654; why -->\n") == [
        "13: .8765"
    ]


def test_no_comment_excuses_the_row_of_a_strategy(checker: ModuleType, folder: Path) -> None:
    text = PAGE.replace("| .5479 |", "| .5478 |") + "<!-- given: .5478 -->\n"
    assert found(checker, folder, text) == ["7: .5478"]


def test_tables_are_those_of_the_section(checker: ModuleType, folder: Path) -> None:
    text = PAGE + "\n## Another\n\nDUET gains +.0140.\n"
    assert found(checker, folder, text) == ["15: +.0140"]
    named = text.replace("## Another\n", "## Another\n<!-- numbers: folder -->\n")
    assert found(checker, folder, named) == []


def test_a_table_of_seeds_is_of_the_rows_of_each_seed(checker: ModuleType, folder: Path) -> None:
    rows = "seed,strategy,metric,mean\n0,duet,ndcg@10,.561\n1,duet,ndcg@10,.563\n"
    (folder / "folder" / "per_seed.csv").write_text(rows, encoding="utf-8")
    text = PAGE + "\n| seed | 0 | 1 |\n|---|---|---|\n| duet | .561 | .563 |\n"
    assert found(checker, folder, text) == []
    assert found(checker, folder, text.replace("| .563 |", "| .561 |")) == ["15: .561"]


def test_every_number_of_the_committed_pages_is_in_a_table(
    checker: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checker.main([]) == 0, capsys.readouterr().out
