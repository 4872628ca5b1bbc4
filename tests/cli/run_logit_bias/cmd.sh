# A strong bias decides every token: id 65 is "b" in the byte alphabet.
$TONNE run tiny/qwen3 hello --logit-bias 65=900 --max-tokens 5
