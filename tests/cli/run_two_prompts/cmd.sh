$TONNE run tiny/qwen3 hello --file p
