"""Models at this server: the life of their versions, routing, canaries, statistics, number of workers."""
