"""The relay that connects the house to the grid, and falls back to it by itself."""

__version__ = "0.1.0"
