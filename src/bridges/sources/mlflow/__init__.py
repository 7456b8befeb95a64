"""MLflow tracking stores as a source: file stores, databases and servers."""
