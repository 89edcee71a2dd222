"""Routes of the native API, one module a resource; each names the permission that it needs."""
