"""Collector for Plasmatronics PL20, PL40, PL60 and PL80 charge controllers behind a PLI adaptor."""

__version__ = "0.1.0"
