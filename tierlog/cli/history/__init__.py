"""Long ranges of topics: the commands ``replay`` and ``sql``.

They ask ``tierlog.replay`` and ``tierlog.sql`` and write what these answer. Begin at ``replay_commands``; heavy imports
stand inside functions.
"""
