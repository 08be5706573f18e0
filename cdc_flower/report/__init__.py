"""One self-contained page from run folders: what happened, how sure it is, what it cost, and how to remake it."""

from cdc_flower.report.folders import Comparison, RunFolder, read_folder
from cdc_flower.report.html import report_from_folders, write_report

__all__ = ["Comparison", "RunFolder", "read_folder", "report_from_folders", "write_report"]
