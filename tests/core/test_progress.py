"""Where tables go."""

import pytest
from rich.table import Table

from cdc_flower.core.progress import WIDTH, table_console


def test_a_table_in_a_file_is_not_folded_at_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("a", "b", box=None)
    table.add_row("x" * 60, "y" * 50)
    table_console().print(table)
    assert "x" * 60 + "  " + "y" * 50 in capsys.readouterr().out
    assert table_console().width >= WIDTH
