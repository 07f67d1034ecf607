"""What trained networks predict for test clips, and how certain the numbers are."""
