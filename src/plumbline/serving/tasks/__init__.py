"""Durable work: a task is accepted once, done once, and readable after a restart, at any gateway of a store.

The record and its life are values (`record`, `lifecycle`); the store compares and sets; `TaskManager` answers
clients, `TaskExecutor` runs what is queued, under leases.
"""
