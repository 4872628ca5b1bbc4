$TONNE run nowhere hello
