"""Text of tokenizers that take spaces out: what an exported file decodes is what transformers decodes."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gptloop.checkpoint.tokenizer import read_tokenizer
from gptloop.runtime.tokenizer import open_tokenizer

CLEANED = [".", ",", "?", "!", "'", "n't", "'m", "'s", "'ve", "'re"]
WORDS = ["<unk>", "<s>", *CLEANED, "we", "are", "do", "a.b", "''", "##ing", "\n", " x", "y ", " "]
IDS = {word: index for index, word in enumerate(WORDS)}
FORCED = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"


@pytest.mark.parametrize(
    ("model", "decoder", "settings", "cleaned"),
    [
        (models.WordLevel(IDS, unk_token="<unk>"), None, {"clean_up_tokenization_spaces": True}, True),
        (models.WordLevel(IDS, unk_token="<unk>"), None, {"clean_up_tokenization_spaces": False}, False),
        (models.WordPiece(IDS, unk_token="<unk>"), decoders.WordPiece(), {"clean_up_tokenization_spaces": True}, True),
        (models.Unigram([(word, -1.0) for word in WORDS], 0), decoders.Metaspace(), {FORCED: False}, False),
        (models.BPE(IDS, []), None, {"clean_up_tokenization_spaces": True}, False),
        (models.BPE(IDS, []), None, {"clean_up_tokenization_spaces": True, FORCED: True}, True),
    ],
    ids=["WordLevel", "WordLevel without", "WordPiece", "Unigram", "BPE", "BPE, forced to"],
)
def test_decoded_text_is_transformers(tmp_path, model, decoder, settings, cleaned):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if decoder:
        tokenizer.decoder = decoder
    saved = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", **settings)
    saved.save_pretrained(tmp_path)
    oracle = AutoTokenizer.from_pretrained(tmp_path)
    exported = tmp_path / "model.tokenizer.json"
    exported.write_bytes(read_tokenizer(tmp_path))
    ours = open_tokenizer(exported)
    draw = random.Random(0)
    rows = [draw.choices(range(len(WORDS)), k=length) for length in range(12) for _ in range(50)]
    texts = [oracle.decode(row) for row in rows]
    assert [ours.decode(row, skip_special_tokens=False) for row in rows] == texts
    assert (texts != [oracle.decode(row, clean_up_tokenization_spaces=False) for row in rows]) == cleaned
