"""Weights: model cards, the registry, the cache, downloads and the embedded models."""
