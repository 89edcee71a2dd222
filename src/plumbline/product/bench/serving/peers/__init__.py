"""The same two models behind other servers, each in an environment of its own with our sources."""
