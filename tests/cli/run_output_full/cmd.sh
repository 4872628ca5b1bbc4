$TONNE run tiny/qwen3 hello --temp 0 --max-tokens 4 >/dev/full
