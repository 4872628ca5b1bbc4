#!/usr/bin/env python3
"""Writes the seed inputs of the tokenizer's fuzz target: small tokenizer.json files, each followed by a zero byte and a text.

Run from the repository root:  tools/make_tokenizer_seeds.py
Standard library only; the output is the same every time.
"""
import copy
import json
import os

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN35 = QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")


def alphabet():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = iter(range(0x100, 0x200))
    return [chr(b) if b in printable else chr(next(other)) for b in range(256)]


def tokenizer(regex=QWEN35, merges=(), added=(), normalizer={"type": "NFC"}, **model):
    vocab = {c: i for i, c in enumerate(alphabet())}
    for a, b in merges:
        vocab.setdefault(a + b, len(vocab))
    return {
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]},
        "model": {"type": "BPE", "vocab": vocab, "merges": [list(m) for m in merges], **model},
        "added_tokens": list(added),
    }


def added(id, content, special=True, normalized=False, **flags):
    return {"id": id, "content": content, "special": special, "normalized": normalized, **flags}


def changed(data, path, value):
    data = copy.deepcopy(data)
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return data


MERGES = [("a", "b"), ("ab", "c"), ("b", "c"), ("Ġ", "Ġ"), ("Ã", "©"), ("t", "h"), ("th", "e"), ("Ġ", "the")]
TOKENS = [added(270, "<|im_start|>"), added(271, "<think>", False), added(272, "<|im_start|>x"), added(290, "e\u0301!", False, True)]
FULL = tokenizer(QWEN35, MERGES, TOKENS)
OLD = changed(FULL, ["model", "merges"], [" ".join(m) for m in MERGES])
SEEDS = {
    "full": (FULL, "the abc  cafe\u0301!<|im_start|>x <think>\r\n\n 12"),
    "qwen2": (tokenizer(QWEN2, MERGES, TOKENS[:1], None), "don't I'LL '\u017f \u0915\u093f\u0902 \uac00\u11a8"),
    "old_merges": (OLD, "abcabc"),
    "ignore_merges": (tokenizer(QWEN2, MERGES, ignore_merges=True), "the the"),
    "duplicate_merge": (tokenizer(QWEN2, MERGES + MERGES[:2]), "abc"),
    "bytes_only": (tokenizer(), "\u1100\u1161\u11a8 s\u0323\u0307 \u212b \U0002f81a"),
    "no_bytes": (changed(FULL, ["model", "vocab"], {"a": 0}), ""),
    "same_id": (changed(FULL, ["model", "vocab", "ab"], 7), ""),
    "huge_id": (changed(FULL, ["model", "vocab", "ab"], 1 << 40), ""),
    "negative_id": (changed(FULL, ["model", "vocab", "ab"], -1), ""),
    "string_id": (changed(FULL, ["model", "vocab", "ab"], "1"), ""),
    "missing_token": (changed(FULL, ["model", "merges", 3], ["q", "qq"]), ""),
    "odd_merge": (changed(FULL, ["model", "merges", 3], ["q", 5]), ""),
    "wrong_regex": (tokenizer(r"\s+|\S+"), ""),
    "lstrip": (tokenizer(QWEN2, MERGES, [added(270, "<x>", lstrip=True)]), ""),
    "taken_id": (tokenizer(QWEN2, MERGES, [added(7, "<x>")]), ""),
    "far_id": (tokenizer(QWEN2, MERGES, [added(60000, "<x>")]), "<x>"),
    "outside_alphabet": (changed(FULL, ["model", "vocab", "\u65e5 \u672c"], 265), "\u65e5\u672c"),
    "not_utf8": (b"{", b"ok \xc3("),
    "text_only": (b"{", "  \n\t \u2028\u3000x\u200d\U0001f469\u200d\U0001f467'S 3\u00b2\u0301\u05b0<|x|>".encode()),
    "long_word": (b"{", b"aaaaabcabcthethe" * 12),
}

folder = os.path.join("tests", "fuzz", "corpus", "tokenizer")
os.makedirs(folder, exist_ok=True)
for name, (file, text) in SEEDS.items():
    if isinstance(file, dict):
        file, text = json.dumps(file, ensure_ascii=False, separators=(",", ":")).encode(), text.encode()
    with open(os.path.join(folder, name), "wb") as f:
        f.write(file + b"\0" + text)
