$TONNE run tiny/qwen3 hello --raw=yes
