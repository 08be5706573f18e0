"""The tutorial: its files are written and its commands run as they stand on the page."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
TEXT = PAGE.read_text(encoding="utf-8")
FILES = dict(re.findall(r'```python title="(\w+\.py)"\n(.*?)```', TEXT, re.DOTALL))
COMMANDS = re.findall(r"^cdc-flower (.+)$", TEXT, re.MULTILINE)
