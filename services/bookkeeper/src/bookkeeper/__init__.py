"""Energy books: what flowed where, in buckets of five minutes."""

__version__ = "0.1.0"
