# What was written runs; its text is the one of quantizing while loading.
$TONNE quantize tiny/qwen3_5_moe m.gguf --type q8_0 | sed 's/in [0-9.]* s/in N s/'
$TONNE quantize tiny/qwen3_5_moe nf4 --type nf4-dq | sed 's/in [0-9.]* s/in N s/'
for type in q8_0:m.gguf nf4-dq:nf4; do
    $TONNE run "${type#*:}" hello --temp 0 --max-tokens 10 >1
    $TONNE run tiny/qwen3_5_moe hello --temp 0 --max-tokens 10 --type "${type%:*}" >2
    cmp 1 2 && [ -s 1 ] && echo "${type%:*} is the same"
done
ls
