"""Plays a plain ``nn.Module`` as the model of many devices; see ``models/from_module.py``."""
