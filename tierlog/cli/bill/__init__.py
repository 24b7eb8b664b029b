"""What things cost and how full they are: the commands ``cost``, ``capacity`` and ``ledger``.

They ask ``tierlog.admin`` and draw what it answers. Begin at ``cost_commands``; heavy imports stand inside functions.
"""
