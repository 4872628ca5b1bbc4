#!/bin/sh
# The demo: a small trained mixture-of-experts model writes a paragraph.
set -eu
prompt=${1:-The old house}
echo "models/novelist.gguf (55 M parameters, 4-bit, see models/README.md) continues: \"$prompt\""
echo
./tonne run models/novelist.gguf "$prompt" --raw --max-tokens 160 --temp 0.8 --seed 3 --stats
echo
echo "Now yours:  ./tonne run models/novelist.gguf \"It was a dark night\"   or   ./tonne chat models/novelist.gguf"
