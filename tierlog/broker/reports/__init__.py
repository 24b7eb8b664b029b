"""Reports to the controller: log ends, failed directories, offline replicas, deleted topics, cordoned directories.

Each module watches one thing, and reports it until the controller has it. Begin at ``log_ends``.
"""
