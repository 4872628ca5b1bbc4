# A reader that leaves ends the program quietly.
{ $TONNE run tiny/qwen3 hello --temp 0 --max-tokens 400; echo "exit $?" >&2; } | head -c 1 >/dev/null
