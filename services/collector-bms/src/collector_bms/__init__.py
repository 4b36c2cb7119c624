"""Collector for Daly battery management systems, both of their serial dialects."""

__version__ = "0.1.0"
