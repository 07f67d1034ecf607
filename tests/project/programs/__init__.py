"""Programs that tests run with another Python."""
