"""Contract suites for plug-ins: tests of the behaviour of every exporter and source."""
