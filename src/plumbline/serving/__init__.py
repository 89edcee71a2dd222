"""L4 serving: the door: gateway, identity, admission journal, tasks, model repository, workers, events.
Sees `engine` and below through worker processes; nothing here chooses an implementation.
"""
