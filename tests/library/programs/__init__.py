"""Programs that tests run in a process of their own, since a fault could end it.

They print the name of each case before they run it, so that the last line names the case that failed.
"""
