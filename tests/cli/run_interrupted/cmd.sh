# Ctrl-C ends the answer in order; tokens 280 and 278 would end it earlier.
$TONNE run tiny/qwen3 hello --temp 0 --ctx 100K --logit-bias 280=-900 --logit-bias 278=-900 >text 2>err &
sleep 1
kill -INT $!
wait $!
rc=$?
[ -s text ] && sed 's/[0-9][0-9]*/N/' err >&2
exit $rc
