mkdir empty
$TONNE run empty hello
