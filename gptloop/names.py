"""What the graph, the runtimes and the file agree on: names, the random numbers, and the key to the dimensions.

Dimensions, as they appear in shape comments and suffixes (`query_BHRd`):

    B  prompts                              R  candidates of one prompt (num_return_sequences)
    S  rows = B * R, candidates of one prompt adjacent
    P  prompt_len                           N  new tokens, at most max_new_tokens
    T  tokens that a row has generated      K  token ids kept for the draw (the largest top_k of the call)
    D  n_embd                               H  n_head                d  head_dim = D / H
    V  vocab_size                           M  end-of-text ids
    L  tokens of a prompt in the KV cache   G  tokens that earlier calls have generated
    E  tokens of complete blocks in it      C  those behind them, of the block that is not complete
    Q  sequences of token ids               W  tokens of the longest of them

In a file, one name stands for one size of a call; a word behind `_` tells apart what may differ (`B_past`).
"""

# Inputs. Those of [B] or [1] are for each prompt or for all. Of what a prompt did not ask for, because another one of
# the batch asks for more candidates or new tokens, it gets padding.
INPUT_IDS = "input_ids"  # int64 [B, P]
ATTENTION_MASK = "attention_mask"  # int64 [B, P], 1 for a token, 0 for left padding
MAX_NEW_TOKENS = "max_new_tokens"  # int64 [B] or [1]
MIN_NEW_TOKENS = "min_new_tokens"  # int64 [B] or [1]; no end of text among the first so many
NUM_RETURN_SEQUENCES = "num_return_sequences"  # int64 [B] or [1]
FIRST_CANDIDATE = "first_candidate"  # int64 [B] or [1]; number of the first one: how many earlier calls have had
TEMPERATURE = "temperature"  # float32 [B] or [1]; 0 is greedy
TOP_K = "top_k"  # int64 [B] or [1]; 0 keeps the whole vocabulary
TOP_P = "top_p"  # float32 [B] or [1]; 1 keeps all
MIN_P = "min_p"  # float32 [B] or [1]; 0 keeps all
REPETITION_PENALTY = "repetition_penalty"  # float32 [B] or [1]; 1 is none
NO_REPEAT_NGRAM_SIZE = "no_repeat_ngram_size"  # int64 [B] or [1]; 0 is off
# Sequences shorter than the longest are padded with -1 on the left; one of -1 alone is none, and follows those of a
# prompt that has fewer than another.
SEQUENCE_BIAS_IDS = "sequence_bias_ids"  # int64 [B, Q, W] or [1, Q, W]
SEQUENCE_BIAS = "sequence_bias"  # float32 [B, Q] or [1, Q], of the logit that would complete one; -inf forbids it
STOP_SEQUENCES = "stop_sequences"  # int64 [B, Q, W] or [1, Q, W], which end a row
EOS_TOKEN_IDS = "eos_token_ids"  # int64 [B, M] or [1, M]; -1 after those of a prompt, or alone for none
PAD_TOKEN_ID = "pad_token_id"  # int64 [B] or [1]; follows a row's end
RETURN_LOGPROBS = "return_logprobs"  # bool [B] or [1]; without it both outputs of log-probabilities are 0
SEED = "seed"  # int64 [B], 0 to 2^63 - 1
# float32 [N, S, 1] in 0 to 1, and one number more before them where G is not 0: what to draw with in place of the seed,
# so that a generation in several calls need not compute it in each. Below 0, as its default, it is not read.
UNIFORMS = "uniforms"

# Outputs: new tokens only.
SEQUENCES = "sequences"  # int64 [B, R, N]
LOGPROBS = "logprobs"  # float32 [B, R, N], of each token under the distribution it was drawn from
RAW_LOGPROBS = "raw_logprobs"  # float32 [B, R, N], under the model's own
ENDED = "ended"  # bool [B, R], whether a row has come to its end

# What a call may take over from an earlier one of the same generation, and leave for a later one where `return_state`
# is true: inputs with a default. K and V of layer l are `past_prompt.l.key` and so on. input_ids and
# attention_mask hold all of a prompt, whose first L tokens have K and V; where G is not 0, that must be all of it.
PAST_SIZES = "past_sizes"  # int64 [3]: L, G and E; nothing of an input below is read whose size is 0
# key [B or 1, H, d, L or more], value [B or 1, H, L or more, d], of which the first L are read, the newest token first;
# where G is not 0, as a `present_prompt` was
PAST_PROMPT = "past_prompt"
PAST_ROWS = "past_rows"  # key and value [B, H, R, E, d], of the first E generated tokens
PAST_BLOCK = "past_block"  # key and value [B, H, R, G - 1 - E, d], of those behind them but the last
PAST_SEQUENCES = "past_sequences"  # int64 [B, R, G], what the rows have generated
PAST_ENDED = "past_ended"  # bool [B, R]
RETURN_STATE = "return_state"  # bool [1]; without it the last two outputs below are of no use
# key [B, H, d, P], value [B, H, P, d], the newest token first; where P is odd, with one more behind, which is none. It
# is there with and without `return_state`, and of a call that goes on from tokens (G is not 0) it is `past_prompt`.
PRESENT_PROMPT = "present_prompt"
PRESENT_ROWS = (
    "present_rows"  # key and value [B, H, R, E, d], of the blocks of steps that were complete before the call
)
PRESENT_BLOCK = "present_block"  # key and value [B, H, R, C, d]

REFUSED = "refused"  # int64 [B]: 0, or of what is out of its bounds the number in REFUSABLE, counted from 1
REFUSABLE = (
    INPUT_IDS,
    ATTENTION_MASK,
    MAX_NEW_TOKENS,
    MIN_NEW_TOKENS,
    NUM_RETURN_SEQUENCES,
    FIRST_CANDIDATE,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    MIN_P,
    REPETITION_PENALTY,
    NO_REPEAT_NGRAM_SIZE,
    SEQUENCE_BIAS_IDS,
    SEQUENCE_BIAS,
    EOS_TOKEN_IDS,
    STOP_SEQUENCES,
    PAD_TOKEN_ID,
)

# Bounds of settings; that of a temperature beside 0. They hold for a value as float32, which is what a call uses:
# np.float32(1e-5) is a little below 1e-5. Beyond them, a float32 logit may overflow that they divide or multiply.
TEMPERATURE_BOUNDS = (1e-5, 1e38)
PENALTY_BOUNDS = (1e-5, 1e5)
BIAS_MAX = 1e9  # a penalty and a temperature at their bounds leave the sum within float32
CANDIDATES_MAX = 2**31 - 1  # the graph counts them in int32

# Keys of the file's metadata_props. Every value is a string, as ONNX demands.
META_VERSION = "gptloop_version"
META_SOURCE = "gptloop_source"
META_WEIGHTS = "gptloop_weights"
META_CONFIG = "gptloop_config"
META_PRECISION = "gptloop_precision"
META_OPSET = "gptloop_opset"
META_FLAVOR = "gptloop_flavor"  # "standard", also where absent, or one of LEAN_FLAVORS
META_MAX_NEW_TOKENS = "gptloop_max_new_tokens"  # where it is fixed
META_CALIBRATION = "gptloop_calibration"  # JSON: tokens and ids_sha256 of the text that showed ranges for int8
META_TOKENIZER = "gptloop_tokenizer"  # name of the file beside the model; absent where there is none
# SHA-256 in hexadecimal digits, absent in files of before it was recorded. All of these stand before META_WEIGHTS, as
# keys are sorted: it ends the file, and shows that nothing is cut off.
META_DATA_SHA256 = "gptloop_data_sha256"  # of the data file, or of the weights in the .onnx file
META_GRAPH_SHA256 = "gptloop_graph_sha256"  # of the rest of the .onnx file (gptloop.model_file.content says of what)
META_TOKENIZER_SHA256 = "gptloop_tokenizer_sha256"  # of the tokenizer's file

# What an export may be asked for. The flavors beside "standard" are those of gptloop.graph.variants.lean.
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
LEAN_FLAVORS = ("lean", "fixed", "fused", "unrolled")
FLAVORS = ("standard", *LEAN_FLAVORS)

# The two graphs of gptloop.graph.variants.step, run by benchmarks.contenders.onnx_step. The prefill has the inputs
# above, and outputs handed.*, which every step reads, and carried.*, which a step takes and gives back as
# next.carried.*.
STEP = "step"  # int64 []: how many tokens each row has generated
HANDED = "handed"
CARRIED = "carried"
NEXT = "next."
GO_ON = "go_on"  # bool []: whether some row has not ended
STEP_LOGPROBS = ("logprob", "raw_logprob")  # float32 [S]
CARRIED_TOKENS = f"{CARRIED}.tokens_ST"

# A sum of probabilities reaches top_p at this share of it: 10 of 20 equal ones are to reach 0.5, however the
# probabilities and top_p itself were rounded to float32.
TOP_P_REACHED = 1 - 2.0**-22

# Activation functions, by transformers' names. The tanh forms differ in how they are computed, not in what.
ACTIVATIONS = ("gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish", "tanh")

# The random numbers are Threefry-2x32-20 with these constants (Random123). The key is a prompt's seed (low 32 bits,
# high 32 bits), the counter (candidate, step); a uniform number is the upper 24 bits of the first output word.
THREEFRY_ROUNDS = 20
THREEFRY_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
THREEFRY_KEY_PARITY = 0x1BD11BDA
