# A conversation goes on where it was saved: the same answer as without the break.
printf 'one\n/save talk.json\ntwo\n' | $TONNE chat tiny/qwen3_5_moe --temp 0 --max-tokens 6 >whole
printf '/load talk.json\ntwo\n' | $TONNE chat tiny/qwen3_5_moe --temp 0 --max-tokens 6 >second
tail -1 whole | cmp - second && grep -c role talk.json
