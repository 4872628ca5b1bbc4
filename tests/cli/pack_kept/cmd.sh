# What --type made is kept and used by the next start; a damaged one is made anew with one line; --no-pack keeps nothing.
HOME=$PWD/home; export HOME
packs=$HOME/.cache/tonne/packs
text() { $TONNE run tiny/qwen3_moe hello --raw --temp 0 --max-tokens 6 --threads 1 --type q8_0 "$@"; }
first=$(text --no-pack)
ls "$packs" 2>/dev/null | wc -l
for turn in makes uses; do
    [ "$(text)" = "$first" ] && echo "a start that $turn it: the same text"
    ls "$packs" | wc -l
done
pack=$(ls "$packs"/*.pack)
printf 'damage' | dd of="$pack" bs=1 seek=20000 conv=notrunc 2>/dev/null
[ "$(text 2>err)" = "$first" ] && echo "a damaged one: the same text"
sed 's|/.*/packs/[0-9a-f]*|PACKS/KEY|' err
[ "$(text 2>err)" = "$first" ] && echo "made anew: the same text"
cat err
printf 'x' >>"$pack"
text 2>&1 >/dev/null | sed 's|/.*/packs/[0-9a-f]*|PACKS/KEY|'
cp -r tiny/qwen3_moe changed
$TONNE run changed hello --raw --temp 0 --max-tokens 6 --threads 1 --type q8_0 >/dev/null
touch changed/model.safetensors
$TONNE run changed hello --raw --temp 0 --max-tokens 6 --threads 1 --type q8_0 2>&1 >/dev/null | sed 's|/.*/packs/[0-9a-f]*|PACKS/KEY|'
ls "$packs" | wc -l
