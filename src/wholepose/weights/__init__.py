"""Weights: model cards, the registry, the cache, downloads and the embedded models."""

from wholepose.weights.cache import Verified, cache_folder, cached_path, import_file, resolve, resolve_model, verify
from wholepose.weights.card import ModelCard
from wholepose.weights.embedded_models import EmbeddedModel, embedded_models
from wholepose.weights.files import read_card, sha256_of, weights_format
from wholepose.weights.onnx_file import check_onnx_file
from wholepose.weights.registry import REGISTRY, RegistryEntry, find_entry

__all__ = [
    "REGISTRY",
    "EmbeddedModel",
    "ModelCard",
    "RegistryEntry",
    "Verified",
    "cache_folder",
    "cached_path",
    "check_onnx_file",
    "embedded_models",
    "find_entry",
    "import_file",
    "read_card",
    "resolve",
    "resolve_model",
    "sha256_of",
    "verify",
    "weights_format",
]
