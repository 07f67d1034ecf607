"""Clips, videos, flow and samples: everything that networks read."""
