"""What metrics and HTTP show of this broker. Reads only. Begin at ``metrics``."""
