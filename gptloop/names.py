"""Names that the graph, the runtimes and the file agree on, and the key to its dimensions.

Dimensions, as they appear in shape comments and suffixes (`query_BHRd`):

    B  prompts                              R  candidates of one prompt (num_return_sequences)
    S  rows = B * R, candidates of one prompt adjacent
    P  prompt_len                           N  max_new_tokens
    T  generated tokens in the KV cache     K  token ids kept for the draw (the largest top_k of the call)
    D  n_embd                               H  n_head                d  head_dim = D / H
    V  vocab_size
"""

INPUT_IDS = "input_ids"  # int64 [B, P]
MAX_NEW_TOKENS = "max_new_tokens"  # int64 [1]
NUM_RETURN_SEQUENCES = "num_return_sequences"  # int64 [1]
TEMPERATURE = "temperature"  # float32 [B] or [1]; 0 is greedy
TOP_K = "top_k"  # int64 [B] or [1]; 0 keeps the whole vocabulary
SEED = "seed"  # int64 [B], 0 to 2^63 - 1

SEQUENCES = "sequences"  # int64 [B, R, N], new tokens only

# Keys of the file's metadata_props. Every value is a string, as ONNX demands.
META_VERSION = "gptloop_version"
META_SOURCE = "gptloop_source"
META_WEIGHTS = "gptloop_weights"
META_CONFIG = "gptloop_config"
META_PRECISION = "gptloop_precision"
META_OPSET = "gptloop_opset"
