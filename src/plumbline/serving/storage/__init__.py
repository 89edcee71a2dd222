"""The database behind tasks and keys: SQLite beside the server, or Postgres by URL, by SQLAlchemy Core."""
