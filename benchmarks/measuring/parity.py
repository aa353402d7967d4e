"""No timing without parity: every contender's tokens, or its quality, against the baseline's; also everybody's warm-up.

Knows contenders and judges; no clock.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.cases import BASELINE
from benchmarks.contenders import KINDS, Contender, Files, Tokens, arguments, prompt_mask
from benchmarks.machine import cuda
from benchmarks.measuring.ends import check_ends, ending
from benchmarks.measuring.measurement import Measurement, Setting
from benchmarks.workloads import Workload
from gptloop.reference.bounds import ParityError, check_quality
from gptloop.reference.evaluate import Evaluation, compare, evaluate
from gptloop.reference.parity import Judge, Parity
from gptloop.runtime.request import check_request


def check_parity(setting: Setting, loaded: Mapping[str, Contender], results: Mapping[str, Measurement]) -> None:
    """Call every contender once, and write what the comparison found into its result, or why it failed.

    Where the case's rows end early, what ends them is found before, and written there as well.

    Args:
        setting: The case.
        loaded: Its contenders, the baseline among them.
        results: Of the same names.
    """
    try:
        checks = _Checks(setting, loaded[BASELINE])
    except ParityError as error:  # nothing makes the baseline's rows end as they should
        for name in loaded:
            results[name].parity = error.with_traceback(None)
        return
    for name, contender in loaded.items():
        setting.say(f"parity of {name}")
        result, used_bytes = results[name], cuda.used_bytes(setting.device)
        try:
            workload = checks.called(name, contender)
            result.eos_token_ids = workload.eos_token_ids
            found = contender.generate(
                setting.ids, workload, max_new_tokens=workload.max_new_tokens, greedy=KINDS[name].parity == "greedy"
            )
            if growth := cuda.growth(used_bytes, setting.device):
                result.device_bytes = growth + (result.device_bytes or 0)
            if workload.row_ends:
                check_ends(found, workload)
            result.check, result.parity = checks(name, contender, found, result.precision)
        except ParityError as error:
            result.parity = error.with_traceback(None)  # whose frames would keep every contender in memory


class _Checks:
    """The comparisons with one baseline."""

    def __init__(self, setting: Setting, baseline: Contender):
        case = setting.case
        self._setting, self._precision = setting, case.precision
        self._workload = ending(baseline, setting.ids, case.workload) if case.workload.row_ends else case.workload
        device = setting.device if case.precision != "fp32" else "cpu"
        self._judge = Judge(setting.files.checkpoint, case.precision, device)
        self._expected = _Expected(baseline, setting.ids, self._workload)

    def called(self, name: str, contender: Contender) -> Workload:
        """The workload as a contender is called with it: the baseline's, but for what ends the rows of other tokens."""
        if self._workload.row_ends and KINDS[name].parity == "quality":
            return ending(contender, self._setting.ids, self._setting.case.workload)
        return self._workload

    def __call__(self, name: str, contender: Contender, found: Tokens, precision: str) -> tuple[str, Parity]:
        """What was compared, in words, and the outcome; the precision is the contender's.

        Raises:
            ParityError: If the contender may not be timed.
        """
        kind = KINDS[name]
        if kind.parity == "quality":
            words = self._quality_words(name, contender, precision, "cpu")
            return words, Parity(rows=len(found), excused_rows=0)
        greedy = kind.parity == "greedy"
        call = arguments(self._workload, self._workload.max_new_tokens, greedy)
        call |= {"num_return_sequences": 1} if greedy else {}
        request = check_request(self._setting.config, self._setting.ids, **call)
        outcome = self._judge.check(request, self._expected(greedy), found)
        words = "tokens equal, greedy" if greedy else "tokens equal while sampling"
        if name == BASELINE:
            words = "baseline"
        if self._precision != "fp32" and kind.module == "onnx_loop":
            quality = self._quality_words(name, contender, self._precision, self._setting.device)
            words += f", but for near-ties in {self._precision}; {quality}"
        return words, outcome

    def _quality_words(self, name: str, contender: Contender, precision: str, device: str) -> str:
        mask, tokens = prompt_mask(self._workload), self._expected(greedy=False)[0]
        prompt = self._setting.ids[0] if mask is None else self._setting.ids[0][mask[0] == 1]
        text = [*prompt, *tokens]
        return check_quality(_quality(name, contender, self._setting.files, text, device), precision)


_qualities: dict[tuple[str, Files], Evaluation] = {}


def _quality(name: str, contender: Contender, files: Files, text: list[int], device: str) -> Evaluation:
    """A contender's quality on the first text that is met: a size's files are scored once, not in every case."""
    if (name, files) not in _qualities:
        ids = np.array(text)
        score = getattr(contender, "score", None)
        exported = files.exported(files.precision_of(name))
        _qualities[name, files] = (
            compare(score, files.checkpoint, ids) if score else evaluate(exported, files.checkpoint, ids, device=device)
        )
    return _qualities[name, files]


class _Expected:
    """The baseline's tokens, sampled or greedy, computed once each."""

    def __init__(self, baseline: Contender, ids: Tokens, workload: Workload):
        self._baseline, self._ids, self._workload = baseline, ids, workload
        self._tokens: dict[bool, Tokens] = {}

    def __call__(self, greedy: bool) -> Tokens:
        if greedy not in self._tokens:
            tokens = self._baseline.generate(
                self._ids, self._workload, max_new_tokens=self._workload.max_new_tokens, greedy=greedy
            )
            # Greedy candidates are all the same; Hugging Face refuses to compute them.
            self._tokens[greedy] = tokens[:: self._workload.num_return_sequences] if greedy else tokens
        return self._tokens[greedy]
