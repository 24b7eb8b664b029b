"""One suite of cases for every object store backend, bare and behind the retrying wrapper."""
