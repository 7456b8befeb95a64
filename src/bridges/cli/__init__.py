"""The command line. The rest of the library prints nothing."""
