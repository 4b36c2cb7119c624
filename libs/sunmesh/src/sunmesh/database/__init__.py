"""The database of a site: its tables, migrations and what differs between servers.

Shared by the services that store or read; a collector never sees it. Needs the extra ``database``.
"""
