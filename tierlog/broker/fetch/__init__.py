"""Serves a Fetch request: sessions, the byte budget, reads from memory, disk and the remote tier.

A Fetch is handed what it uses of the broker (``parts``) and changes no log. Begin at ``fetching``.
"""
