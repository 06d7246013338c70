"""A model's name -> its folder -> model and tokenizer."""

from judgelm.models.folder import ModelFolder, find_model
from judgelm.models.loading import load_model, load_tokenizer

__all__ = ["ModelFolder", "find_model", "load_model", "load_tokenizer"]
