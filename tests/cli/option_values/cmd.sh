# Each of these is refused with a reason; the exit codes are printed.
for o in --max-tokens=0 --max-tokens=many --ctx=99999999999999999999 --threads=-1 --temp=hot --temp=-0.5 --top-p=1.5 \
    --seed=-1 --logit-bias=5 --logit-bias=5=high --stop= --temp=nan; do
    $TONNE run tiny/qwen3 hello "$o"
    echo "$o: $?"
done
