"""Data sets as lists of tracks: generated songs, folders, TensorFlow Datasets builders."""
