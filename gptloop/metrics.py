"""The derived quantities of a measured call, each defined once.

Knows seconds and token counts; does not know who measured them, how they are stored, or how they are shown.
"""


def time_per_output_token_s(total_s: float, ttft_s: float, new_tokens: int) -> float:
    """Time per output token after the first, in seconds.

    Args:
        total_s: Time of the whole `generate` call, in seconds.
        ttft_s: Time to first token, in seconds: the same call with `max_new_tokens=1`.
        new_tokens: New tokens per row, at least 2 (the first one is the TTFT's).

    Raises:
        ValueError: If `new_tokens` is below 2.
    """
    if new_tokens < 2:
        raise ValueError(f"time per output token needs at least 2 new tokens, got {new_tokens}")
    return (total_s - ttft_s) / (new_tokens - 1)


def tokens_per_s(total_s: float, rows: int, new_tokens: int) -> float:
    """New tokens over the whole batch, per second of the whole `generate` call.

    Args:
        total_s: Time of the whole `generate` call, in seconds; above 0.
        rows: Rows of the result (prompts times candidates).
        new_tokens: New tokens per row.

    Raises:
        ValueError: If `total_s` is not above 0.
    """
    if not total_s > 0:
        raise ValueError(f"a generate call takes more than 0 s, got {total_s}")
    return rows * new_tokens / total_s
