"""The content of an MLflow tracking store, as file stores, databases and servers hold it."""
