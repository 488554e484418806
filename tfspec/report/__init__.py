"""Figures and one-file HTML reports, from arrays and plain numbers."""
