# On a terminal Ctrl-C drops the line or stops the answer; the chat goes on. Tokens 280 and 278 would end it.
{
    sleep 2
    printf 'half a line\003'
    sleep 0.5
    printf 'hello\n'
    sleep 1
    printf '\003'
    sleep 1
    printf '/system\n'
    sleep 0.5
    printf '/quit\n'
    sleep 0.5
} | TERM=dumb script -qec "$TONNE chat tiny/qwen3 --ctx 100K --logit-bias 280=-900 --logit-bias 278=-900" /dev/null >out
grep -o 'there is no system message' out
grep -c '' "$HOME/.local/state/tonne/chat_history"
