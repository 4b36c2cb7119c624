"""Old records into the database: read, compared, and only then stored; each import can be undone.

A module of :mod:`.formats` turns files into :mod:`.records`; :mod:`.plan` compares them with the
database day by day and changes nothing; :mod:`.batches` stores a plan and undoes what was stored.
What the command line does, a portal can: ``plan = make(...)``, show ``plan.days()``,
``apply(plan, ...)``.
"""
