"""Copies of the artifact files of runs and logged models of MLflow stores."""
