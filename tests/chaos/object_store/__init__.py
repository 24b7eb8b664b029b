"""A cluster whose object store fails in all ways that stores fail, through an HTTP proxy, while it uploads, reads, deletes,
changes leaders and moves segments into colder classes. ``__main__`` is the command, ``campaign`` what happens, ``stores``
the servers, ``ledger`` what was acknowledged and what must come back."""
