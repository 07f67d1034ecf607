"""The reference example: the paper's whole experiment on MPII Cooking, or on a small synthetic kitchen."""
