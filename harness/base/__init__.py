"""Basics for all rooms: errors, settings, atomic files, the user's folder, caches and validated records."""
