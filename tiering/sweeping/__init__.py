"""When the bucket is searched for objects that nobody names, and with which requests. Pure; what may then be deleted is
decided in ``tiering.lifecycle``."""
