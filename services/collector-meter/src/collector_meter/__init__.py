"""Collector for Eastron SDM energy meters: SDM120, SDM230, SDM630."""

__version__ = "0.1.0"
