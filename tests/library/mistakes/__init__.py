"""Tables of natural mistakes, by where they are made. Each row: what somebody did, the call, the error, its message."""

TABLES = ("sampling", "layer", "guidance", "geometry", "motion")
