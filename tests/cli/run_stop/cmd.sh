# The answer ends before a stop string, also one that spans tokens; --max-tokens counts tokens.
whole=$($TONNE run tiny/qwen3 hello --temp 0 --max-tokens 20 --json | sed -n 's/^ "text": "\(.*\)",$/\1/p')
end=$(printf %s "$whole" | cut -c 4-6)
$TONNE run tiny/qwen3 hello --temp 0 --max-tokens 20 --stop "$end" --json | grep -E 'finish_reason'
cut=$($TONNE run tiny/qwen3 hello --temp 0 --max-tokens 20 --stop "$end")
case $whole in "$cut$end"*) echo "cut before it" ;; *) echo "whole: $whole, stop: $end, cut: $cut" ;; esac
