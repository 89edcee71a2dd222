"""Policies: one small module each, all behind `plumbline.scheduling.policy.SchedulingPolicy`.

A policy is found by name through `plumbline.scheduling.policies.registry`. Two class attributes beyond the
port are read where they are there: `starves` says whether a request may wait for ever while others keep
arriving, and `starvation` says so in plain words.
"""
