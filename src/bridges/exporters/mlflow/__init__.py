"""MLflow: runs in a database, or on a server."""
