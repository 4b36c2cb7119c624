"""Collector for Voltronic-built inverters: Axpert, PIP, MKS, King, MAX and their many names."""

__version__ = "0.1.0"
