$TONNE plan --help
