#!/usr/bin/env python3
"""Writes tests/data/encode/: weights of many kinds and the bytes each GGUF encoder must give for them.

Q8_0, Q4_0, Q5_0, Q5_1 and MXFP4 come from gguf-py (gguf 0.19, numpy 2.x). The others have no encoder there: they are
computed below, step by step in float32, from the definition of the reference encoders. Sums run
over the values of a sub-block in order; everything is vectorized over sub-blocks.

    python3 tools/make_encode_fixtures.py        # from the repository's root; overwrites the files
"""
import os
import numpy as np
import gguf
from gguf import GGMLQuantizationType as T

OUT = "tests/data/encode"
PER_KIND = 5 * 256
f32 = np.float32


def to_bf16(x):
    u = x.view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) & np.uint32(0xFFFF0000)).astype(np.uint32).view(f32)


def midpoints(levels):
    levels = np.sort(np.array(levels, f32))
    return (levels[:-1] + levels[1:]) / f32(2)


NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
       -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
       0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
FP4 = np.array([0, 0.0625, 8, 12, 4, 6, 2, 3, 0, -0.0625, -8, -12, -4, -6, -2, -3], f32) / f32(12)


def on_midpoints(rng, levels):
    """Values on the thresholds and one step beside them, in blocks of 64 whose absmax is 1."""
    m = midpoints(levels)
    near = np.concatenate([m, np.nextafter(m, f32(2)), np.nextafter(m, f32(-2))])
    x = rng.choice(near, PER_KIND).astype(f32)
    x[::64] = 1
    return x


def make_input():
    rng = np.random.default_rng(20260821)
    n = PER_KIND
    gauss = lambda: rng.standard_normal(n).astype(f32)
    sparse = gauss()
    sparse[rng.random(n) < 0.9] = 0
    few = np.zeros(n, f32)
    few[rng.integers(0, n, 9)] = 1e-3
    near_power = (f32(1) - f32(2.0**-24) * rng.integers(0, 4, n).astype(f32)) * \
        np.exp2(rng.integers(-10, 10, n // 32)).repeat(32).astype(f32)
    kinds = [
        gauss() * f32(0.02), to_bf16(gauss() * f32(0.02)), to_bf16(gauss()), rng.standard_t(3, n).astype(f32),
        np.abs(gauss()), -np.abs(gauss()),
        np.repeat(rng.standard_normal(n // 32).astype(f32), 32), sparse, few,
        rng.integers(-4, 5, n).astype(f32), rng.integers(-128, 129, n).astype(f32) / f32(8),
        gauss() * np.exp2(rng.integers(-20, 10, n // 16)).repeat(16).astype(f32),
        gauss() * f32(1e-7), gauss() * f32(1e-16), near_power,
        np.concatenate([on_midpoints(rng, NF4)[:n // 2], on_midpoints(rng, FP4)[:n // 2]]),
    ]
    return np.ascontiguousarray(np.concatenate(kinds), dtype=f32)


def nearest(x):
    return np.rint(x).astype(f32)  # halves to even


def f16_bytes(x):
    return x.astype(np.float16).reshape(-1, 1).view(np.uint8)


def select(which, a, b):
    return np.where(which, a, b).astype(f32)


# ---- IQ4_NL ----

K = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], f32)


def nearest_level(v):
    """Index of the level nearest to v; the upper neighbour unless strictly nearer to the lower one."""
    up = np.clip(np.searchsorted(K, v, side="right"), 1, 15)
    lower = (v - K[up - 1]).astype(f32) < (K[up] - v).astype(f32)
    i = np.where(lower, up - 1, up)
    return np.where(v <= K[0], 0, np.where(v >= K[15], 15, i))


def iq4_sums(x, inverse):
    a = np.zeros(len(x), f32)
    b = np.zeros(len(x), f32)
    for j in range(32):
        v = x[:, j]
        q = K[nearest_level(inverse * v)]
        w = v * v
        a += w * q * v
        b += w * q * q
    return a, b


def encode_iq4_nl(x):
    x = x.reshape(-1, 32)
    at = np.abs(x).argmax(axis=1)
    largest = x[np.arange(len(x)), at]
    empty = np.abs(largest) < f32(1e-15)
    largest = select(empty, f32(1), largest)
    a, b = iq4_sums(x, f32(1) / (-largest / K[0]))
    d = select(b > 0, a / np.where(b > 0, b, 1), 0)
    best = d * a
    for t in range(-7, 8):
        a, b = iq4_sums(x, (f32(t) + K[0]) / largest)
        better = (b > 0) & (a * a > best * b)
        fit = a / np.where(b > 0, b, f32(1))
        d = select(better, fit, d)
        best = select(better, fit * a, best)
    d = select(empty, 0, d)
    inverse = select(d != 0, f32(1) / np.where(d != 0, d, f32(1)), 0)
    code = nearest_level(inverse[:, None] * x).astype(np.uint8)
    return np.concatenate([f16_bytes(d), code[:, :16] | code[:, 16:] << 4], axis=1)


# ---- Q4_K, Q5_K ----

def fit_min(x, top, first, steps):
    """x[n][32] -> scale[n], minimum[n] (>= 0, subtracted), codes[n][32]."""
    n = len(x)
    total = np.zeros(n, f32)
    for j in range(32):
        total += x[:, j] * x[:, j]
    w = np.sqrt(total / f32(32)).astype(f32)[:, None] + np.abs(x)
    sum_w, sum_x = w[:, 0].copy(), w[:, 0] * x[:, 0]
    for j in range(1, 32):
        sum_w += w[:, j]
        sum_x += w[:, j] * x[:, j]
    low = np.minimum(x.min(axis=1), f32(0))
    high = x.max(axis=1)
    flat = low == high
    low_at_start = low.copy()
    high = select(flat, low + f32(1), high)

    def codes(inverse):
        return np.clip(nearest(inverse[:, None] * (x - low[:, None])), 0, f32(top))

    def error(scale, minimum, l):
        e = np.zeros(n, f32)
        for j in range(32):
            off = scale * l[:, j] + minimum - x[:, j]
            e += w[:, j] * (off * off)
        return e

    inverse = f32(top) / (high - low)
    scale = f32(1) / inverse
    kept = codes(inverse)
    best = error(scale, low, kept)
    for step in range(steps + 1):
        inverse = (f32(first) + f32(0.1) * f32(step) + f32(top)) / (high - low)
        l = codes(inverse)
        sl, sll, sxl = np.zeros(n, f32), np.zeros(n, f32), np.zeros(n, f32)
        for j in range(32):
            wl = w[:, j] * l[:, j]
            sl += wl
            sll += wl * l[:, j]
            sxl += wl * x[:, j]
        det = sum_w * sll - sl * sl
        ok = det > 0
        det = select(ok, det, 1)
        s = (sum_w * sxl - sum_x * sl) / det
        m = (sll * sum_x - sl * sxl) / det
        s = select(m > 0, sxl / np.where(sll > 0, sll, f32(1)), s)
        m = select(m > 0, 0, m)
        e = error(s, m, l)
        better = ok & (e < best)
        kept = np.where(better[:, None], l, kept)
        best, scale, low = select(better, e, best), select(better, s, scale), select(better, m, low)
    return (select(flat, 0, scale), -select(flat, low_at_start, low),
            np.where(flat[:, None], 0, kept).astype(np.uint8))


def encode_with_min(x, top, first, steps):
    """-> 16 bytes of head, codes[n][256]"""
    sub = x.reshape(-1, 32)
    scale, minimum, code = fit_min(sub, top, first, steps)
    scale, minimum = scale.reshape(-1, 8), minimum.reshape(-1, 8)
    top_scale, top_min = np.maximum(scale.max(axis=1), f32(0)), np.maximum(minimum.max(axis=1), f32(0))

    def six(v, top_v):
        per = select(top_v > 0, f32(63) / np.where(top_v > 0, top_v, f32(1)), 0)
        return np.minimum(63, nearest(per[:, None] * v).astype(np.int32) & 255).astype(np.uint8)

    sc, mn = six(scale, top_scale), six(minimum, top_min)
    d, dmin = f16_bytes(top_scale / f32(63)), f16_bytes(top_min / f32(63))
    packed = np.concatenate([sc[:, :4] | (sc[:, 4:] >> 4 << 6), mn[:, :4] | (mn[:, 4:] >> 4 << 6),
                             (sc[:, 4:] & 15) | (mn[:, 4:] & 15) << 4], axis=1)
    step = (d.view(np.float16).astype(f32) * sc).reshape(-1, 1)
    off = (dmin.view(np.float16).astype(f32) * mn).reshape(-1, 1)
    fresh = np.clip(nearest((sub + off) / np.where(step != 0, step, f32(1))), 0, f32(top)).astype(np.uint8)
    code = np.where(step != 0, fresh, code).reshape(-1, 256)
    return np.concatenate([d, dmin, packed], axis=1), code


def nibbles(code):
    g = code.reshape(-1, 4, 2, 32)
    return ((g[:, :, 0] & 15) | (g[:, :, 1] & 15) << 4).reshape(-1, 128)


def encode_q4_k(x):
    head, code = encode_with_min(x, 15, -1.0, 20)
    return np.concatenate([head, nibbles(code)], axis=1)


def encode_q5_k(x):
    head, code = encode_with_min(x, 31, -0.5, 15)
    high = np.packbits((code.reshape(-1, 8, 32) >> 4).transpose(0, 2, 1), axis=2, bitorder="little").reshape(-1, 32)
    return np.concatenate([head, high, nibbles(code)], axis=1)


# ---- Q6_K ----

def fit_signed(x):
    """x[n][16] -> scale[n], codes[n][16] in 0..63 (all 0 where there is nothing)"""
    n = len(x)
    largest = x[np.arange(n), np.abs(x).argmax(axis=1)]
    empty = np.abs(largest) < f32(1e-15)
    largest = select(empty, 1, largest)

    def codes(inverse):
        return np.clip(nearest(inverse[:, None] * x), f32(-32), f32(31))

    def sums(l):
        a, b = np.zeros(n, f32), np.zeros(n, f32)
        for j in range(16):
            w = x[:, j] * x[:, j]
            a += w * x[:, j] * l[:, j]
            b += w * l[:, j] * l[:, j]
        return a, b

    kept = codes(f32(-32) / largest)
    a, b = sums(kept)
    scale = select(b != 0, a / np.where(b != 0, b, f32(1)), 0)
    best = scale * a
    for t in range(-9, 10):
        if t == 0:
            continue
        l = codes(-(f32(32) + f32(0.1) * f32(t)) / largest)
        a, b = sums(l)
        better = (b > 0) & (a * a > best * b)
        fit = a / np.where(b > 0, b, f32(1))
        kept = np.where(better[:, None], l, kept)
        scale, best = select(better, fit, scale), select(better, fit * a, best)
    return select(empty, 0, scale), np.where(empty[:, None], 0, kept + 32).astype(np.uint8)


def encode_q6_k(x):
    sub = x.reshape(-1, 16)
    scale, code = fit_signed(sub)
    scale = scale.reshape(-1, 16)
    largest = scale[np.arange(len(scale)), np.abs(scale).argmax(axis=1)]
    empty = np.abs(largest) < f32(1e-15)
    per = f32(-128) / select(empty, 1, largest)
    d = f16_bytes(f32(1) / per)
    sc = np.minimum(127, nearest(per[:, None] * scale)).astype(np.int8)
    step = (d.view(np.float16).astype(f32) * sc).reshape(-1, 1)
    fresh = np.clip(nearest(sub / np.where(step != 0, step, f32(1))), f32(-32), f32(31)) + f32(32)
    code = np.where(step != 0, fresh, code).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.stack([code[:, :, 0] & 15 | (code[:, :, 2] & 15) << 4, code[:, :, 1] & 15 | (code[:, :, 3] & 15) << 4],
                   axis=2).reshape(-1, 128)
    high = (code[:, :, 0] >> 4 | code[:, :, 1] >> 4 << 2 | code[:, :, 2] >> 4 << 4 |
            code[:, :, 3] >> 4 << 6).reshape(-1, 64)
    out = np.concatenate([low, high, sc.view(np.uint8), d], axis=1)
    out[empty] = 0
    return out


def main():
    os.makedirs(OUT, exist_ok=True)
    x = make_input()
    x.tofile(f"{OUT}/input.f32")
    with np.errstate(all="ignore"):
        for name, t in (("q8_0", T.Q8_0), ("q4_0", T.Q4_0), ("q5_0", T.Q5_0), ("q5_1", T.Q5_1), ("mxfp4", T.MXFP4)):
            gguf.quants.quantize(x.reshape(1, -1), t).tofile(f"{OUT}/{name}.bin")
        for name, encode in (("iq4_nl", encode_iq4_nl), ("q4_k", encode_q4_k), ("q5_k", encode_q5_k),
                             ("q6_k", encode_q6_k)):
            np.ascontiguousarray(encode(x)).tofile(f"{OUT}/{name}.bin")


if __name__ == "__main__":
    main()
