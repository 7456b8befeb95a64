"""The neutral model and its pure functions: no I/O, no tracker and no logging library."""
