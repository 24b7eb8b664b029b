"""Chunks of old reads on a local disk, between memory and the object store: they survive a restart. Begin at ``cache``.

``entries`` (what a file looks like), ``index`` (what is there, what goes) and ``touches`` (what is worth keeping) decide;
``files`` does the blocking work on threads of ``cache``.
"""
