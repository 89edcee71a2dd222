"""Devices as the gateway knows them: what there is, where each stands, and what is allocated on it."""
