"""What goes into the database from files and out of it: import, export, backup and restore.

Needs the extra ``database``.
"""
