"""Servers that don't exist, for traces to be played to: under the controller, a forecaster or another rule."""
