"""The regression gate: a change against its base in pairs of processes, and the proof that its verdicts hold."""
