"""The one library of the mesh: what passes between services and how each of them lives."""

__version__ = "0.1.0"
