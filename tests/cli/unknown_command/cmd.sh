$TONNE rnu model
[ $? = 2 ] || exit 1
$TONNE frobnicate
