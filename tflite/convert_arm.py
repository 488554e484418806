#!/usr/bin/env python3
"""Convert a model for Linux on ARM or Android, verified in LiteRT.

python tflite/convert_arm.py runs/small --out small_arm
python tflite/convert_arm.py model.keras --calibration segments.npy --out model_arm
"""

from converting import run

if __name__ == "__main__":
    run("litert", "linux-arm64", __doc__)
