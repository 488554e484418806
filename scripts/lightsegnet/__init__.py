"""Parts of `reproduce_lightsegnet.py`."""
