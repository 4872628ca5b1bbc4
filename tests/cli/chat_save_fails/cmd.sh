# The drive is full: an error, no file, and the chat goes on.
trap '' XFSZ
{ ( ulimit -f 0; printf '/save talk.json\n/system\n' | $TONNE chat tiny/qwen3 2>&1 ); } | cat
ls
