"""Embedded data with exact ground truth."""
