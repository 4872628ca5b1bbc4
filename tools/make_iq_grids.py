#!/usr/bin/env python3
"""Writes src/quant/iq_grids.c from the hexadecimal tables of a description of the IQ formats.

usage: make_iq_grids.py SPEC.md > src/quant/iq_grids.c

SPEC.md has one section "### NAME" per table, with the entries as fixed-width hexadecimal text between ``` lines.
"""
import re
import sys
import zlib

TABLES = {  # name: (hex characters per entry, entries, crc-32 of the text, what it serves)
    "grid2xxs": (4, 256, 0x757EE0CC, "IQ2_XXS: 8 digits of 2 bits"),
    "grid2xs": (4, 512, 0x0EE9DB97, "IQ2_XS: 8 digits of 2 bits"),
    "grid2s": (4, 1024, 0x86810C0E, "IQ2_S: 8 digits of 2 bits"),
    "grid3xxs": (3, 256, 0xD4E0A9CC, "IQ3_XXS: 4 digits of 3 bits"),
    "grid3s": (3, 512, 0xB012AF85, "IQ3_S: 4 digits of 3 bits"),
    "grid1s": (4, 2048, 0x776605F5, "IQ1_S and IQ1_M: 8 digits of 2 bits"),
}

HEAD = """/*
 * iq_grids.c: the points that the codes of the IQ1, IQ2 and IQ3 formats select.
 * Written by tools/make_iq_grids.py.
 *
 * An entry is 8 (IQ3: 4) values of a group packed as digits, the group's first value in the lowest digit:
 *   iq2: 2 bits, 0 1 2 stand for 8 25 43        iq1: 2 bits, 0 1 2 stand for -1 0 1
 *   iq3_xxs: 3 bits, 0..7 stand for 4 12 20 28 36 44 52 62        iq3_s: 3 bits, digit d stands for 2d + 1
 */
#include "quant/iq_grids.h"

/* clang-format off */
"""


def main():
    text = open(sys.argv[1]).read()
    out = [HEAD]
    for name, (width, n, crc, note) in TABLES.items():
        body = re.search(r"### %s\n```\n(.*?)```" % name, text, re.S).group(1)
        digits = re.sub(r"\s", "", body).lower()
        assert len(digits) == n * width, name
        assert zlib.crc32(digits.encode()) == crc, name
        entries = ["0x" + digits[i : i + width] for i in range(0, len(digits), width)]
        out.append("/* %s */" % note)
        out.append("const uint16_t iq_%s[%d] = {" % (name, n))
        per_line = 12
        out += ["    " + ", ".join(entries[i : i + per_line]) + "," for i in range(0, n, per_line)]
        out.append("};\n")
    sys.stdout.write("\n".join(out).rstrip("\n") + "\n")


main()
