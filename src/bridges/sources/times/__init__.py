"""The times of rows, from files beside a history."""
