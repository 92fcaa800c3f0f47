"""The HTTP server: `wholepose serve`, and the same application for other ASGI servers and for Ray.

``app.create_app`` makes the application, ``run.Server`` runs it. Nothing is imported here, since decoder processes
start from this package and need little of it.
"""
