"""The model registry: runs, versions and aliases in MLflow."""
