"""Collector for DS18B20 temperature sensors on the 1-Wire bus of a Linux board."""

__version__ = "0.1.0"
