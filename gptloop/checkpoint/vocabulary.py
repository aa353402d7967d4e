"""Whether a tokenizer's vocabulary is one that a model can read, and that can be opened in the memory there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from gptloop.caller import warn_caller
from gptloop.checkpoint.brief import brief
from gptloop.checkpoint.folder import file_in
from gptloop.checkpoint.json_object import read_json_object

MAX_HOLES = 2**20  # ids without a token; published vocabularies have some thousands


def check_ids(folder: Path) -> None:
    """Refuse token ids far beyond a vocabulary's size, before a library makes room for all the ids below them.

    The tokenizers library lists the ids without a token when it writes a vocabulary: 16 GB for one id of 2^32 - 1.

    Raises:
        ValueError: Naming the file, the id and the bound; or if a file is no JSON.
    """
    for name in ("tokenizer.json", "vocab.json", "added_tokens.json", "tokenizer_config.json"):
        file = file_in(folder, name)
        if not file.is_file():
            continue
        content = read_json_object(file)
        for other in content.get("fast_tokenizer_files") or ():  # of which transformers may take one
            file_in(folder, str(other))
        ids = [token for token in _ids(name, content) if type(token) is int]
        if ids and max(ids) >= (bound := len(ids) + MAX_HOLES):
            raise ValueError(f"{name} has {len(ids)} tokens and an id {brief(max(ids))}; ids must be below {bound}")


def _ids(name: str, content: dict[str, Any]) -> Iterator[Any]:
    """Whatever stands where a file has token ids; the libraries say what is wrong with the rest."""
    if name in ("vocab.json", "added_tokens.json"):
        yield from content.values()
    elif name == "tokenizer_config.json":
        added = content.get("added_tokens_decoder")
        yield from (int(token) for token in (added if isinstance(added, dict) else ()) if token.isdecimal())
    else:
        model, added = content.get("model"), content.get("added_tokens")
        vocabulary = model.get("vocab") if isinstance(model, dict) else None
        # A list is a Unigram model's, whose ids are its places.
        yield from vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary or ()))
        yield from (token.get("id") for token in (added if isinstance(added, list) else ()) if isinstance(token, dict))


def check_fits(tokenizer: Tokenizer, vocab_size: int, folder: Path) -> None:
    """Refuse a tokenizer that gives ordinary text ids that the model does not have.

    A special token beyond the model's vocabulary, such as a padding token that was added for training, does no harm
    until a prompt spells it out, so that it is a warning.

    Raises:
        ValueError: Naming the tokenizer's size, tokens beyond, and vocab_size.
    """
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    beyond = {token: text for text, token in vocabulary.items() if token >= vocab_size}
    added = tokenizer.get_added_tokens_decoder()
    ordinary = [token for token in beyond if not (token in added and added[token].special)]
    if tokenizer.get_vocab_size(with_added_tokens=False) == 0 and not any(not t.special for t in added.values()):
        raise ValueError(f"the tokenizer in {folder} has no tokens but special ones; its files are of another kind")
    always = [token for token in tokenizer.encode("").ids if token >= vocab_size]
    if not beyond and not always:
        return
    token = min(ordinary or always or beyond)
    of_size = f"of {len(vocabulary)} tokens, among them id {token} ({brief(repr(beyond.get(token)))})"
    against = f"the tokenizer in {folder} is one {of_size}, but the model's vocab_size is {vocab_size}"
    if ordinary or always:
        raise ValueError(f"{against}; resize the model's embedding, or take the tokens out of the tokenizer")
    warn_caller(f"{against}: prompts with this special token will be refused")
