"""Who is asking, what they may do, and how often: API keys, roles and rates."""
