"""Alarms that take more than one device to see, or more than one moment."""

__version__ = "0.1.0"
