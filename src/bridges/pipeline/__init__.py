"""The way of one run: find it in the target, lay it out, write it, read it back, compare."""
