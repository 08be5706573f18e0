"""Reference lines beside the strategies, one file each; found by scanning this folder."""

from cdc_flower.tasks.video.references.registry import Known, Line, references

__all__ = ["Known", "Line", "references"]
