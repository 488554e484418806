"""Waveforms and spectrograms; imports nothing else of tfspec."""
