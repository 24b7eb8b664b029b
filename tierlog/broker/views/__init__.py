"""The broker's state as metrics and HTTP show it. Reads only. Begin at ``metrics``."""
