"""Floors from a panel of healthy retrains: train or take the panel, measure it, and set the bounds by its spread."""
