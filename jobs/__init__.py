"""Job specs, command line, reports and the demo."""
