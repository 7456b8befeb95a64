"""Contract suites for plug-ins: what every exporter and every source must do."""
