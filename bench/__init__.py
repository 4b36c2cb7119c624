"""The numbers: each beside its floor, measured in the same run. ``make bench`` prints JSON."""
