"""The portal: live values from the broker, history from the database, pages for people."""

__version__ = "0.1.0"
