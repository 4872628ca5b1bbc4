yes 'a long message' | head -40 | tr '\n' ' ' >line
echo >>line
$TONNE chat tiny/qwen3 --ctx 64 --temp 0 <line
