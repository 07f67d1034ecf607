"""Runnable examples of ``supervised_st``; they use only its public names."""
