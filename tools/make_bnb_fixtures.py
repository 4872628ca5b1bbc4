#!/usr/bin/env python3
"""Writes tests/data/bnb/: what bitsandbytes (0.50, CPU, one thread) makes of tests/data/encode/input.f32.

    python3 tools/make_bnb_fixtures.py        # from the repository's root, after make_encode_fixtures.py

nf4.bin, fp4.bin   codes of input.f32, then of tiny.f32 (blocks around 1e-38 and below)
absmax.f32         one per block, the same for both types
dq.txt             per line: n blocks, bits of the offset, FNV-1a of nested absmax, FNV-1a of the nested codes; the
                   blocks' absmax is sequence(n) below, which the test computes too
decode.txt         type and FNV-1a of the decoded f32 of input.f32 and tiny.f32, plain and double-quantized
map.f32            the 256 values of the dynamic map
"""
import os
import numpy as np
import torch
import bitsandbytes.functional as F

OUT = "tests/data/bnb"
SIZES = [1, 2, 7, 8, 9, 31, 33, 127, 255, 256, 257, 511, 1000, 2048, 2080, 4096, 9999, 16384, 32767, 32768, 65537,
         100000]


def fnv(a):
    h = 0xCBF29CE484222325
    for b in np.ascontiguousarray(a).view(np.uint8).tobytes():
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def sequence(n):
    h = np.arange(n, dtype=np.uint32) * np.uint32(2654435761)
    h ^= h >> np.uint32(15)
    h *= np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def tiny(rng):
    scale = np.array([1e-37, 3e-38, 1.2e-38, 1e-38, 9e-39, 1e-40, 1e-44, 0] * 2, np.float32).repeat(64)
    return (rng.standard_normal(scale.size).astype(np.float32) * scale).astype(np.float32)


def quantize(x, kind, double):
    return F.quantize_4bit(torch.from_numpy(x), blocksize=64, quant_type=kind, compress_statistics=double)


def main():
    torch.set_num_threads(1)
    os.makedirs(OUT, exist_ok=True)
    small = tiny(np.random.default_rng(7))
    small.tofile(f"{OUT}/tiny.f32")
    x = np.concatenate([np.fromfile("tests/data/encode/input.f32", np.float32), small])
    F.create_dynamic_map().numpy().tofile(f"{OUT}/map.f32")
    with open(f"{OUT}/decode.txt", "w") as out:
        for kind in ("nf4", "fp4"):
            codes, state = quantize(x, kind, False)
            codes.numpy().tofile(f"{OUT}/{kind}.bin")
            state.absmax.numpy().tofile(f"{OUT}/absmax.f32")
            out.write(f"{kind} {fnv(F.dequantize_4bit(codes, state).numpy()):016x}\n")
            codes, state = quantize(x, kind, True)
            out.write(f"{kind}-dq {fnv(F.dequantize_4bit(codes, state).numpy()):016x}\n")
    with open(f"{OUT}/dq.txt", "w") as out:
        for n in SIZES:
            block = np.zeros((n, 64), np.float32)
            block[:, 0] = sequence(n)
            _, state = quantize(block.ravel(), "nf4", True)
            offset = int(np.float32(state.offset.item()).view(np.uint32))
            out.write(f"{n} {offset:08x} {fnv(state.state2.absmax.numpy()):016x} {fnv(state.absmax.numpy()):016x}\n")


if __name__ == "__main__":
    main()
