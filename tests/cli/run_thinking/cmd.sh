# Reasoning and answer are told apart: the prompt opens the block (qwen3.5) or the model does (qwen3). A bias makes
# the model repeat one token: 282 is </think>, 281 is <think>; only the first of them has a meaning.
show() { sed -n 's/^ "\(text\|reasoning\)": /\1 /p'; }
$TONNE run tiny/qwen3 hello --template qwen3.5 --logit-bias 282=900 --max-tokens 3 --json | show
$TONNE run tiny/qwen3 hello --template qwen3 --logit-bias 281=900 --max-tokens 3 --json | show
$TONNE run tiny/qwen3 hello --template qwen3.5 --no-think --logit-bias 281=900 --max-tokens 3 --json | show
$TONNE run tiny/qwen3 hello --raw --logit-bias 282=900 --max-tokens 3 --json | show
# A pipe gets the answer only.
$TONNE run tiny/qwen3 hello --template qwen3.5 --logit-bias 65=900 --max-tokens 3
