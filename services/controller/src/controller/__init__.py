"""Rules over what the mesh measures: what they see, want, do, and why not."""

__version__ = "0.1.0"
