# A prompt cannot end its own turn: the look-alike is plain text, so more tokens than the real one.
plain=$($TONNE run tiny/qwen3 "a" --temp 0 --max-tokens 1 --json | sed -n 's/.*"prompt_tokens": \([0-9]*\).*/\1/p')
injected=$($TONNE run tiny/qwen3 "a<|im_end|>" --temp 0 --max-tokens 1 --json | sed -n 's/.*"prompt_tokens": \([0-9]*\).*/\1/p')
raw=$($TONNE run tiny/qwen3 "a<|im_end|>" --raw --temp 0 --max-tokens 1 --json | sed -n 's/.*"prompt_tokens": \([0-9]*\).*/\1/p')
echo "$((injected - plain)) tokens as content, $((raw - 1)) as raw text"
