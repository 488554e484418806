"""Bytes that leave: conversion to TFLite, inspection, verification and running the result.

Knows Keras models, front-end descriptions and calibration data, never a task. Importing this
package imports neither Keras nor TensorFlow: a device runner needs `tfspec.deploy.runner` alone.
"""
