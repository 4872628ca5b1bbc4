# The cache folder cannot be made: the findings are shown, then the error.
touch file
XDG_CACHE_HOME=$PWD/file $TONNE doctor --threads 1 /proc >out 2>err
echo "exit $?"
sed "s|$PWD|HERE|" err
sed 's/ .*//; /^$/d' out | head -3
XDG_CACHE_HOME=relative $TONNE doctor --threads 1 /proc | grep -o 'Kept in .*' | sed "s|$HOME|HOME|"
