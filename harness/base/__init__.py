"""Basics for all rooms.

Errors, settings, atomic files, the user's folder, caches and validated records.
"""
