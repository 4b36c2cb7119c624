"""Collector for SunPower PVS5 and PVS6 gateways, their microinverters, meters and storage."""

__version__ = "0.1.0"
