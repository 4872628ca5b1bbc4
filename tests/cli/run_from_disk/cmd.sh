# A budget that holds a part of the experts: the same text, whatever the share. Less than the least is refused.
m=$(readlink -f tiny)/../../../models/novelist.gguf
text() { $TONNE run "$m" "The old house" --raw --temp 0 --max-tokens 24 --ctx 256 "$@"; }
all=$(text)
for ram in 23M 26M 30M; do
    some=$(text --ram $ram --stats 2>err)
    [ "$some" = "$all" ] && echo "$ram: the same text"
    grep -q '^experts .* found in memory' err && echo "$ram: experts were read"
done
text --ram 10M 2>&1 | sed 's|/.*/models/|models/|; s/[0-9.]* MiB/N MiB/; s/--ram [0-9]*M/--ram N/; s/with [0-9.]* MiB/with N MiB/'
