#!/usr/bin/env python3
"""Writes tests/data/quant_decode.bin: coded matrices of every format and the floats that they stand for.

usage: make_quant_fixtures.py OUT          (gguf 0.19.0, torch 2.13.0, numpy 2.4.6)

Codes are random bits (seeded); fields that hold a float are random values including zero, the smallest subnormal
and the largest finite number, without NaN and infinity. The floats come from gguf-py, FP8's from torch; Q8_K,
which gguf-py does not decode, is computed here from its definition.

The file is a sequence of records, little-endian:
  char name[16]; u32 rows, cols, data_bytes, scale_bytes; data; scale plane; f32 values[rows][cols]
"""
import struct
import sys

import gguf
import numpy as np
import torch

ROWS = 3
F16_FIELDS = {  # byte offsets of the f16 fields of a block
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ1_S": [0], "IQ1_M": [], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0],
    "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [], "NVFP4": [], "TQ1_0": [52], "TQ2_0": [64],
}
EXTREME_F16 = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x7BFF, 0xFBFF], np.uint16)


def random_f16(rng, n):
    """Bit patterns: most of the size that scales have, the rest from the whole range."""
    usual = rng.normal(0, 0.02, n).astype(np.float16).view(np.uint16)
    wide = rng.integers(0, 0x7C00, n).astype(np.uint16) | (rng.integers(0, 2, n) << 15).astype(np.uint16)
    kind = rng.integers(0, 4, n)
    return np.where(kind == 0, rng.choice(EXTREME_F16, n), np.where(kind == 1, wide, usual)).astype("<u2")


def random_blocks(rng, name, n, block_bytes):
    b = rng.integers(0, 256, (n, block_bytes)).astype(np.uint8)
    for at in F16_FIELDS[name]:
        b[:, at : at + 2] = random_f16(rng, n).view(np.uint8).reshape(n, 2)
    if name == "IQ1_M":  # the f16 is spread over the top nibbles of bytes 49, 51, 53, 55
        d = random_f16(rng, n)
        for i in range(4):
            b[:, 49 + 2 * i] = b[:, 49 + 2 * i] & 15 | ((d >> 4 * i & 15) << 4).astype(np.uint8)
    if name == "NVFP4":  # unsigned scales
        b[:, :4] &= 0x7F
        b[0, :4] = [0x00, 0x01, 0x7E, 0x7F]
    if name == "MXFP4":
        b[:4, 0] = [0, 1, 2, 254]
    return b


def q8_k(rng, n):
    """f32 d; i8 qs[256]; i16 bsums[16]: x = d * qs"""
    d = (rng.normal(0, 1, n) * 10.0 ** rng.integers(-30, 30, n)).astype("<f4")
    qs = rng.integers(-128, 128, (n, 256)).astype(np.int8)
    sums = qs.astype(np.int32).reshape(n, 16, 16).sum(2).astype("<i2")
    data = np.concatenate([d.view(np.uint8).reshape(n, 4), qs.view(np.uint8), sums.view(np.uint8)], 1)
    return data, d[:, None] * qs.astype(np.float32)


def fp8(rng, dtype):
    """Every code once; cols 192: the second tile of 128 is a part of one. The scales are powers of two or not."""
    codes = np.concatenate([np.arange(256), rng.integers(0, 256, 2 * 192 - 256)]).astype(np.uint8).reshape(2, 192)
    scale = np.array([0.0078125, 0.000213], "<f4")
    value = torch.from_numpy(codes).view(dtype).to(torch.float32).numpy()
    return codes, scale, value * np.repeat(scale, 128)[None, :192]


def plain(rng, name):
    bits = np.concatenate([rng.integers(0, 65536, 1000), [0, 1, 0x8000, 0x3FF, 0x400, 0x7BFF, 0x7C00, 0xFC00]])
    bits = bits.astype("<u2")
    t = torch.from_numpy(bits.view(np.int16)).view(torch.float16 if name == "f16" else torch.bfloat16)
    return bits, t.to(torch.float32).numpy()


def record(out, name, rows, cols, data, scale, values):
    assert values.size == rows * cols
    out.write(struct.pack("<16sIIII", name.encode(), rows, cols, len(data), len(scale)))
    out.write(data + scale + values.astype("<f4").tobytes())


def main():
    rng = np.random.default_rng(20261121)
    with open(sys.argv[1], "wb") as out:
        f32 = rng.normal(0, 1, (2, 64)).astype("<f4")
        record(out, "f32", 2, 64, f32.tobytes(), b"", f32)
        f64 = np.concatenate([rng.normal(0, 1, 60), [1e-40, 1e300, 1 + 2.0**-24, 1 + 3 * 2.0**-24]]).astype("<f8")
        with np.errstate(over="ignore"):
            record(out, "f64", 2, 32, f64.tobytes(), b"", f64.astype("<f4"))
        for name in ("f16", "bf16"):
            bits, values = plain(rng, name)
            record(out, name, 4, bits.size // 4, bits.tobytes(), b"", values)
        for name, dtype in (("fp8_e4m3", torch.float8_e4m3fn), ("fp8_e5m2", torch.float8_e5m2)):
            codes, scale, values = fp8(rng, dtype)
            record(out, name, 2, 192, codes.tobytes(), scale.tobytes(), values)
        for name in F16_FIELDS:
            qtype = gguf.GGMLQuantizationType[name]
            block, block_bytes = gguf.GGML_QUANT_SIZES[qtype]
            n_row = max(2, 256 // block)  # blocks per row
            data = random_blocks(rng, name, ROWS * n_row, block_bytes)
            with np.errstate(over="ignore"):  # MXFP4's largest scales give infinity
                values = gguf.quants.dequantize(data.reshape(ROWS, -1), qtype)
            assert values.dtype == np.float32
            record(out, name.lower(), ROWS, n_row * block, data.tobytes(), b"", values)
        data, values = q8_k(rng, ROWS * 2)
        record(out, "q8_k", ROWS, 512, data.tobytes(), b"", values)


main()
