"""Measuring models: perplexity by the protocol of docs/formats.md."""

from .perplexity import eval_windows, perplexity

__all__ = ["eval_windows", "perplexity"]
