"""The spaces that transformers takes out of decoded text, as a part of the tokenizer's own decoder.

So that whoever decodes with the exported file gets transformers' text, and needs to know of no setting.
"""

from __future__ import annotations

from tokenizers import Tokenizer, decoders
from transformers import PreTrainedTokenizerBase

# What `clean_up_tokenization` of transformers (5.23) replaces, in this order.
REPLACED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)
NO_PREFIX = "\uffff"  # no character, so that no token starts with it: WordPiece's decoder then puts spaces between all


def add_clean_up(tokenizer: Tokenizer, loaded: PreTrainedTokenizerBase) -> None:
    """Let a tokenizer decode as transformers does.

    Args:
        tokenizer: The one of the `tokenizers` library in `loaded`; its decoder is changed.
        loaded: transformers' own, which says whether it cleans up; with byte-pair encoding it does only if forced to.
    """
    forced = getattr(loaded, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
    if not loaded.clean_up_tokenization_spaces or (type(tokenizer.model).__name__ == "BPE" and not forced):
        return
    joined = tokenizer.decoder or decoders.WordPiece(prefix=NO_PREFIX, cleanup=False)  # without one, spaces join
    steps = [decoders.Replace(space, without) for space, without in REPLACED]
    tokenizer.decoder = decoders.Sequence([joined, decoders.Fuse(), *steps])
