"""The recorder: from the broker into the database in batches, acknowledged after the commit."""

__version__ = "0.1.0"
