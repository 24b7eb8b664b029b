"""Object stores behind one port: S3, a directory, memory; and their wrappers (retries, measures, faults).

Their tests are one contract suite. Begin at ``port``, then ``opening``.
"""
