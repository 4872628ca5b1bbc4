#!/usr/bin/env python3
"""Writes the seed inputs of the safetensors and GGUF fuzz targets: small valid files of every kind, and a few broken ones.

Run from the repository root:  tools/make_fuzz_seeds.py
Standard library only; the output is the same every time.
"""
import json
import os
import struct


def safetensors(tensors, data, pad=0, metadata=None):
    header = {"__metadata__": metadata} if metadata else {}
    header.update({n: {"dtype": t, "shape": s, "data_offsets": o} for n, t, s, o in tensors})
    text = json.dumps(header).encode() + b" " * pad
    return struct.pack("<Q", len(text)) + text + data


def text(s):
    return struct.pack("<Q", len(s)) + s


def pair(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def gguf(pairs, infos, data, version=3, align=32):
    head = b"GGUF" + struct.pack("<IQQ", version, len(infos), len(pairs)) + b"".join(pairs)
    for name, dims, kind, offset in infos:
        head += text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, offset)
    if infos:
        head += b"\0" * (-len(head) % align)
    return head + data


ALL_SCALARS = [
    pair(b"k%d" % kind, kind, struct.pack("<" + code, 1))
    for kind, code in [(0, "B"), (1, "b"), (2, "H"), (3, "h"), (4, "I"), (5, "i"), (6, "f"), (7, "B"), (10, "Q"), (11, "q"), (12, "d")]
]
STRINGS = pair(b"tokens", 9, struct.pack("<IQ", 8, 3) + text(b"a") + text(b"") + text(b"\xc4\xa0the"))
INTS = pair(b"types", 9, struct.pack("<IQ", 5, 3) + struct.pack("<3i", 1, 3, -1))
SPLIT = [pair(b"split.no", 2, struct.pack("<H", 0)), pair(b"split.count", 2, struct.pack("<H", 2)), pair(b"split.tensors.count", 5, struct.pack("<i", 1))]

SEEDS = {
    "safetensors": {
        "empty": safetensors([], b""),
        "two": safetensors([("a", "BF16", [2, 3], [0, 12]), ("b", "F32", [], [12, 16])], bytes(16), 3, {"format": "pt"}),
        "fp8": safetensors([("w", "F8_E4M3", [4, 4], [0, 16]), ("w_scale_inv", "BF16", [1, 1], [16, 18])], bytes(18)),
        "odd": safetensors([("f4", "F4", [2, 1], [0, 1]), ("none", "I64", [0, 5], [1, 1]), ("x", "NEW", [3], [1, 4])], bytes(4)),
        "hole": safetensors([("a", "U8", [1], [1, 2])], bytes(2)),
        "overlap": safetensors([("a", "U8", [2], [0, 2]), ("b", "U8", [2], [1, 3])], bytes(3)),
        "huge_shape": safetensors([("a", "U8", [1 << 40, 1 << 40], [0, 0])], b""),
        "long_header": struct.pack("<Q", 1 << 40) + b"{}",
    },
    "gguf": {
        "empty": gguf([], [], b""),
        "scalars": gguf(ALL_SCALARS, [], b""),
        "arrays": gguf([STRINGS, INTS, pair(b"general.architecture", 8, text(b"qwen3"))], [], b""),
        "tensors": gguf([INTS], [(b"a", (4, 2), 0, 0), (b"b", (32,), 8, 32), (b"c", (), 0, 96)], bytes(100)),
        "v2_aligned_8": gguf([pair(b"general.alignment", 4, struct.pack("<I", 8))], [(b"a", (1,), 0, 0), (b"b", (1,), 1, 8)], bytes(10), 2, 8),
        "unknown_types": gguf([], [(b"a", (256,), 139, 0), (b"b", (4,), 0, 160)], bytes(176)),
        "split": gguf(SPLIT, [], b""),
        "many_keys": gguf([], [], b"")[:16] + struct.pack("<Q", 1 << 50),
        "nested_array": gguf([pair(b"k", 9, struct.pack("<IQ", 9, 1) + bytes(12))], [], b""),
        "big_endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    },
}

for target, seeds in SEEDS.items():
    folder = os.path.join("tests", "fuzz", "corpus", target)
    os.makedirs(folder, exist_ok=True)
    for name, data in seeds.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)
