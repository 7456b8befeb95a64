"""The scripts that write parts of the documentation."""
