"""The numbers of results/video that follow from shapes alone."""

import re
from pathlib import Path

import torch

from cdc_flower.strategies.cdc_mmpg.adaptor import VARIANTS, FastDomainAdaptor

PAGE = Path(__file__).resolve().parents[1] / "results" / "video" / "README.md"
ROW = re.compile(
    r"^\| ([\d,]+)(?: \([^)]*\))? \| `(\S+)` \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", re.MULTILINE
)


def test_the_table_of_variants_is_what_the_adaptor_has() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert {(row[0], row[1]) for row in rows} == {
        (a, v) for a in ("1,001", "1,501", "1,541") for v in VARIANTS
    }
    assert {"388,388", "582,388", "597,908"} <= {row[4] for row in rows}
    for num_answers, variant, *told in rows:
        size = int(num_answers.replace(",", ""))
        with torch.device("meta"):  # shapes alone
            fda = FastDomainAdaptor(
                variant, torch.zeros(96, size), torch.zeros(size), 192, hidden=128
            )
        expected = [fda.num_parameters, fda.num_generated, 4 * fda.num_generated]
        assert [int(number.replace(",", "")) for number in told] == expected, (num_answers, variant)
