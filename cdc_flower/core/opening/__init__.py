"""Opens files that others made: plain, compressed or in archives, within limits.

No pipe is waited for, nothing that expands without end is unpacked, and every damage is one
sentence with the name of the file.
"""
