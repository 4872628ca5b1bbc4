# The drive is full: an error, and neither an output nor a half one.
trap '' XFSZ
{ ( ulimit -f 20; $TONNE quantize tiny/qwen3 out.gguf --type q8_0 2>&1; echo $? ); } | cat
ls
