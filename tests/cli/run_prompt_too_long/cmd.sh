yes word | head -400 | tr "\n" " " >p
$TONNE run tiny/qwen3 --file p --raw --ctx 100
[ $? = 2 ] && $TONNE run tiny/qwen3 --file p --raw
