"""Run folders, training with resume, guards and callbacks."""
