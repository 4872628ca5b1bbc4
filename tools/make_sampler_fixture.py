#!/usr/bin/env python3
"""Writes tests/data/sampler.json: what transformers' logits processors leave to draw from.

Each case: float32 logits, options, the tokens so far, and the probabilities of the tokens that survive. Cases in
which float32 rounding could decide whether a token stays (within 1e-4 of a threshold) are drawn again.
"""
import json
from pathlib import Path

import numpy as np
import torch
from transformers.generation.logits_process import (LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor,
                                                    TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)

N = 40
RNG = np.random.default_rng(5)


def case(i):
    logits = RNG.normal(0, 3, N).astype(np.float32)
    if i % 5 == 0:  # ties, also at the border of top-k
        logits = np.round(logits)
    o = {"temperature": float(RNG.choice([0.25, 0.5, 1.0, 2.0])), "top_k": int(RNG.choice([0, 1, 5, 20])),
         "top_p": float(RNG.choice([1.0, 0.95, 0.5, 0.125])), "min_p": float(RNG.choice([0.0, 0.05, 0.25])),
         "repetition_penalty": float(RNG.choice([1.0, 1.25, 0.75]))}
    if i % 5 == 0:  # which of equals top-p drops is not defined there
        o["top_p"] = 1.0
    seen = [int(t) for t in RNG.integers(0, N, RNG.integers(1, 12))]
    chain = LogitsProcessorList()
    if o["repetition_penalty"] != 1:
        chain.append(RepetitionPenaltyLogitsProcessor(o["repetition_penalty"]))
    chain.append(TemperatureLogitsWarper(o["temperature"]))
    if o["top_k"]:
        chain.append(TopKLogitsWarper(o["top_k"]))
    if o["top_p"] < 1:
        chain.append(TopPLogitsWarper(o["top_p"]))
    if o["min_p"]:
        chain.append(MinPLogitsWarper(o["min_p"]))
    kept = []
    for nudge in (0.0, 1e-4, -1e-4):  # the same survivors with the thresholds moved a little
        for p in chain:
            if isinstance(p, TopPLogitsWarper):
                p.top_p = o["top_p"] + nudge
            if isinstance(p, MinPLogitsWarper):
                p.min_p = o["min_p"] + nudge
        scores = chain(torch.tensor([seen]), torch.from_numpy(logits.copy())[None])
        probs = torch.softmax(scores.double(), -1)[0].numpy()
        kept.append((tuple(np.nonzero(probs)[0]), probs))
    if len({k[0] for k in kept}) > 1:
        return case(i)
    ids, probs = kept[0]
    return {**o, "seen": seen, "logits": [float(x) for x in logits], "ids": [int(t) for t in ids], "probs": [float(f"{probs[t]:.9g}") for t in ids]}


out = Path(__file__).parent.parent / "tests/data/sampler.json"
cases = [case(i) for i in range(60)]
out.write_text('{"cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n")
print(out, out.stat().st_size)
