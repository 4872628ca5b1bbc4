printf "" | $TONNE run tiny/qwen3
[ $? = 2 ] && $TONNE run tiny/qwen3 ""
