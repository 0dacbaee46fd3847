"""Settings, the directories homefire writes to, and what it shows on a terminal.

The lowest layer: imports nothing of homefire but its errors.
"""
