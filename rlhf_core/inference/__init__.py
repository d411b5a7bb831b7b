"""Core room, above ``learn`` and ``checkpoints``: a warm worker process that scores for the pages.

``client`` is torch-free and is what pages' services use; ``worker`` is the process and is never imported by them.
"""
