"""Strategies: the cloud's side of a method, each in a folder with its card and its YAML file."""
