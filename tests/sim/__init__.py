"""The cluster's deciding code in a seeded world: see ``world``. ``python -m tests.sim --help``."""
