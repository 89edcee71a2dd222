"""L4: the door. One ASGI application in front of `/v2`, the native API and the service's own routes.

`application.build_application(Gateway(...))` makes the application; `server.serve` runs it, with gRPC beside
it.
"""
