"""Settings and results in files beside a history."""
