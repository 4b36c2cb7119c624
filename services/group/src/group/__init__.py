"""Several devices seen as one."""

__version__ = "0.1.0"
