"""One Fetch, whoever asks: sessions, the byte budget, reads from memory, disk and the remote tier.

It is given what it uses (``parts``) and changes no log. Begin at ``fetching``.
"""
