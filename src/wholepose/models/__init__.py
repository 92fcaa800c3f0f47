"""HRNet pose networks in PyTorch, their checkpoints, and decoding on the device."""
