"""Axes, colors and styles that figures and pages share."""
