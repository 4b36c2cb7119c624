"""Commands: from a message on ``<device>/command`` to a result that was proved.

:mod:`~sunmesh.commands.desk` hears commands, refuses what must not be done, and publishes each
stage; every service that takes commands has one. :mod:`~sunmesh.commands.control` puts settings
into a device that is polled, by the rules of :mod:`~sunmesh.commands.rules`, and keeps count in a
:mod:`~sunmesh.commands.ledger`.
"""
