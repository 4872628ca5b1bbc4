$TONNE run tiny/qwen3 hello --tmep 3
[ $? = 2 ] && $TONNE run tiny/qwen3 hello --verbose-mode
