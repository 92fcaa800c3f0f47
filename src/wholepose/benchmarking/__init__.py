"""Timing every engine that can run a model on this machine, and checking each against the float keypoints."""
