"""Alarms of the mesh, pushed to the people of the house: each change once."""

__version__ = "0.1.0"
