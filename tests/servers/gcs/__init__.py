"""A strict server of Google Cloud Storage's two APIs, in memory: JSON, and of XML what obstore asks.

It refuses what Google refuses: every condition on every verb, unknown storage classes, checksums that do not match, deletes
under a hold or a retention, requests without the token or the permission. Begin at ``serving``; the rules are in ``bucket``
(objects and their generations) and ``uploads`` (resumable ones), both free of HTTP.
"""
