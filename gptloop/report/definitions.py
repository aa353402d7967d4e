"""What the words of the report mean, for the summary and the page alike."""

# What each word of the report means; `code` in backticks, for Markdown and the page alike.
DEFINITIONS = {
    "Speedup": "is the baseline's time over the contender's, formed for each pair of interleaved rounds of one run: "
    "the median of these ratios, with [min-max]. The baseline is the KV-cached PyTorch loop; above 1.00x is faster.",
    "Time": "is one whole `generate` call: median [min-max] of the rounds.",
    "TTFT": "(time to first token) is the same call with `max_new_tokens=1`; its speedup is formed as that of the "
    "whole call, from rounds of its own.",
    "Time per output token": "is (time - TTFT) / (new tokens - 1).",
    "Tokens/s": "counts the new tokens of all rows.",
    "Lasting change": "is a step or a drift in the time of a gated case over all runs of a machine, found among ranks "
    "by a permutation test: at most 1 flat history in 100 shows one.",
    "Growth": "is the time per output token over that of a call for the first new tokens alone, paired by round (TTFT "
    "is the median): 1 says that a long text costs no more per token than a short one.",
    "Load": "is from files on disk to ready, in a process of its own (imports included).",
    "Time / ceiling": "is the contender's time over what it cannot be faster than on this machine, paired by round: "
    "the call's matrix products alone (the same shapes, runtime, threads and weights; those of attention included, "
    "where they were measured), or its matrices' way from memory, once for each pass, at the bandwidth measured beside "
    "it; whichever takes longer. It marks the latency chart.",
    "Cores": "tell how the machine's cores seem to be placed before and after a call, which a virtual machine's host "
    "may change: near, apart, as one core's two hardware threads, or moved in between; by small parallel passes beside "
    "the calls, in which threads read what they or what others wrote, against the fastest of the machine. A speedup "
    "there is of the rounds in which the baseline's cores were placed alike.",
    "Peak memory": "is that of the contender alone in a process of its own, its weights included.",
    "Parity": "comes before time: a contender whose tokens differ has no time. Excused rows left the baseline's path "
    "at a checked near-tie.",
}
