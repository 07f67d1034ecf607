"""Measurements of the library: one file per question, results as JSON, tables generated from them."""
