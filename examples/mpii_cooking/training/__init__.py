"""Networks, what they start from, and how they learn."""
