# /new forgets: the same message gets the same answer again; the system message stays.
printf 'one\n/new\none\n' | $TONNE chat tiny/qwen3_5 --system "Be kind." --temp 0 --max-tokens 6 >out
head -1 out >1
tail -1 out | cmp - 1
