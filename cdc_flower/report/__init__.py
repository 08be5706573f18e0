"""Writes one self-contained page from run folders.

It says what happened, how sure that is, what it cost, and how to remake it.
"""

from cdc_flower.report.comparison.page import report_from_folders, write_report
from cdc_flower.report.folders import Comparison, RunFolder, read_folder

__all__ = ["Comparison", "RunFolder", "read_folder", "report_from_folders", "write_report"]
