"""The small files of a log and its directory, their names, and the only way to change a disk (``filesystem``)."""
