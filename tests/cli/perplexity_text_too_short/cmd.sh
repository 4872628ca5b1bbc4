echo "a few words" >t
$TONNE perplexity tiny/qwen3 --file t
[ $? = 2 ] || exit
$TONNE perplexity tiny/qwen3 --file t --ctx 4 --windows 9
