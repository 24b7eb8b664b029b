"""Finds and deletes the objects of the bucket that nobody needs any more. Begin at ``sweeper``.

* ``deletes``: deletes objects of one partition, and counts those that the store refuses to delete.
* ``sweeper``: lists the partitions that are due, many in one request, within the budget of requests.
* ``uploads``: aborts multipart uploads that nobody will finish.
* ``purge``: deletes the objects of deleted topics.
"""
