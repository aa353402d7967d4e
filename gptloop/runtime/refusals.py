"""Refusals that a command has an option against, by kind; each command names its own.

Knows nothing of commands.
"""

from __future__ import annotations


class NoTokenizerError(ValueError):
    """Text for a model without a tokenizer."""


class PromptTooLongError(ValueError):
    """A prompt that leaves no room for the new tokens, and would without its start."""
